"""The frames of a config: of Cityscapes' form, of two folders, or of one without labels."""

from collections.abc import Callable, Mapping
from pathlib import Path

from detectron2.config import CfgNode

from densedist.common.data import digits
from densedist.common.data.images import unique_names
from densedist.common.errors import UserError
from densedist.seg.data import folders
from densedist.seg.data.frames import IMAGES, SPLIT, Frame, frames

FORM = "[name, folder of images, folder of masks]"


def split_frames(cfg: CfgNode, split: str, key: str, need_labels: bool, may_be_bare: bool = False) -> list[Frame]:
    """The frames of a split of DATASETS.ROOT, of one of DATASETS.FOLDERS, or of a folder of images alone.

    Args:
        split: its name, or a part of it, as in "train[:100]".
        key: the config key that names the split, for messages.
        need_labels: see frames().
        may_be_bare: the split may be a folder's path.

    Raises:
        UserError: see frames() and pairs(); an entry of FOLDERS of another form, or two of one name.
    """
    own: dict[str, tuple[str, str]] = {}
    for entry in cfg.DATASETS.FOLDERS:
        if not (isinstance(entry, (list, tuple)) and len(entry) == 3 and all(isinstance(x, str) for x in entry)):
            raise UserError(f"DATASETS.FOLDERS: {entry} is not {FORM}")
        if entry[0] in own:
            raise UserError(f"DATASETS.FOLDERS: two are named {entry[0]}: give each its own name")
        own[entry[0]] = entry[1], entry[2]
    parts = SPLIT.fullmatch(str(split))
    other, name, start, stop = parts.groups() if parts else (None, "", None, None)
    part = slice(int(start) if start else None, int(stop) if stop else None)
    whole = Path(other or "", name)
    if other is None and name in own:
        if _is_split(cfg, None, name):
            raise UserError(f"DATASETS.FOLDERS: {name} is a split of DATASETS.ROOT, too: give it another name")
        found = folders.pairs(*own[name], f"DATASETS.FOLDERS, {name}")[part]
    elif may_be_bare and name and whole.expanduser().is_dir() and not _is_split(cfg, other, name):
        found = folders.alone(str(whole), key)[part]
    else:
        return frames(cfg.DATASETS.ROOT, split, key, need_labels)
    if not found:
        raise UserError(f"{key}: {split} has no image")
    return found


def _is_split(cfg: CfgNode, other: str | None, name: str) -> bool:
    root = other or cfg.DATASETS.ROOT
    folder = digits.ensure() if root == "digits" else Path(root).expanduser()
    return bool(root) and (folder / IMAGES / name).is_dir()


def training_frames(cfg: CfgNode) -> list[Frame]:
    """The frames of DATASETS.TRAIN, all with labels."""
    return _all_frames(cfg, "TRAIN", need_labels=True)


def unlabeled_frames(cfg: CfgNode) -> list[Frame]:
    """The frames of DATASETS.UNLABELED, without their labels, if they have any."""
    return [frame | {"label": None} for frame in _all_frames(cfg, "UNLABELED", need_labels=False)]


def test_frames(cfg: CfgNode) -> list[Frame]:
    """The frames of DATASETS.TEST, with labels where the split has them."""
    return _all_frames(cfg, "TEST", need_labels=False)


def _all_frames(cfg: CfgNode, side: str, need_labels: bool) -> list[Frame]:
    key, bare = f"DATASETS.{side}", side == "UNLABELED"
    splits = [split_frames(cfg, split, key, need_labels, bare) for split in cfg.DATASETS[side]]
    found = [frame for split in splits for frame in split]
    # Two cities or splits may have files of the same name, and each frame has files of its own written by its name.
    names = unique_names([frame["name"] for frame in found])
    return [frame | {"name": name} for name, frame in zip(names, found, strict=True)]


SIDES: Mapping[str, Callable[[CfgNode], list[Frame]]] = {
    "TRAIN": training_frames,
    "UNLABELED": unlabeled_frames,
    "TEST": test_frames,
}


def images(cfg: CfgNode, side: str) -> set[str]:
    """The files of the images of DATASETS.TRAIN, UNLABELED or TEST."""
    return {frame["image"] for frame in SIDES[side](cfg)}
