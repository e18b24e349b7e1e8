"""The frames of a config: of Cityscapes' form, of another form that a key names, or of a folder without labels."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from detectron2.config import CfgNode

from densedist.common.data import digits
from densedist.common.data.images import unique_names
from densedist.common.errors import UserError
from densedist.common.scored_sets import refuse_twins
from densedist.seg.data import folders
from densedist.seg.data.frames import IMAGES, SPLIT, Frame, frames
from densedist.seg.data.written import check_written
from densedist.seg.labels import Classes


@dataclass(frozen=True)
class Form:
    """A key of DATASETS that names data sets of one's own.

    Args:
        what: an entry is, in words.
        sizes: how many words an entry may have, its name included.
        frames: of the words behind the name, the key for messages, and whether labels must be there.
    """

    what: str
    sizes: Sequence[int]
    frames: Callable[[Sequence[str], str, bool], list[Frame]]


def _ade20k(where: Sequence[str], key: str, need_labels: bool) -> list[Frame]:
    folder, split = where
    images, masks = Path(folder, "images", split), Path(folder, "annotations", split)
    if need_labels or masks.expanduser().is_dir():
        return folders.pairs(str(images), str(masks), key)
    return folders.alone(str(images), key)


FORMS: Mapping[str, Form] = {
    "FOLDERS": Form(
        "[name, folder of images, folder of masks]", (3,), lambda where, key, _: folders.pairs(where[0], where[1], key)
    ),
    "VOC_FORMAT": Form("[name, folder, split], or with a folder of masks behind it", (3, 4), folders.listed),
    "ADE20K_FORMAT": Form("[name, folder, split]", (3,), _ade20k),
}


def split_frames(cfg: CfgNode, split: str, key: str, need_labels: bool, may_be_bare: bool = False) -> list[Frame]:
    """The frames of a split of DATASETS.ROOT, of a data set that a key of FORMS names, or of a folder of images alone.

    Args:
        split: its name, or a part of it, as in "train[:100]".
        key: the config key that names the split, for messages.
        need_labels: see frames().
        may_be_bare: the split may be a folder's path.

    Raises:
        UserError: see frames() and FORMS; an entry of another form, or two of one name.
    """
    own = _own(cfg)
    parts = SPLIT.fullmatch(str(split))
    other, name, start, stop = parts.groups() if parts else (None, "", None, None)
    part = slice(int(start) if start else None, int(stop) if stop else None)
    whole = Path(other or "", name)
    if other is None and name in own:
        if _is_split(cfg, None, name):
            raise UserError(f"{own[name][0]}: {name} is a split of DATASETS.ROOT, too: give it another name")
        named_by, form, where = own[name]
        found = form.frames(where, f"{named_by}, {name}", need_labels)[part]
    elif may_be_bare and name and whole.expanduser().is_dir() and not _is_split(cfg, other, name):
        found = folders.alone(str(whole), key)[part]
    elif own and not (other or cfg.DATASETS.ROOT):
        raise UserError(f"{key}: there is no data set {split}: want one of {', '.join(own)}, or set DATASETS.ROOT")
    else:
        if need_labels:
            check_written(whole.parent if other else Path(cfg.DATASETS.ROOT), Classes.of(cfg), key)
        return frames(cfg.DATASETS.ROOT, split, key, need_labels, cfg.DATASETS.LABELS)
    if not found:
        raise UserError(f"{key}: {split} has no image")
    return found


def _own(cfg: CfgNode) -> dict[str, tuple[str, Form, Sequence[str]]]:
    """For each data set of one's own the key that names it, its form, and where it is."""
    own: dict[str, tuple[str, Form, Sequence[str]]] = {}
    for name, form in FORMS.items():
        key = f"DATASETS.{name}"
        for entry in cfg.DATASETS[name]:
            words = isinstance(entry, (list, tuple)) and all(isinstance(word, str) for word in entry)
            if not (words and len(entry) in form.sizes):
                raise UserError(f"{key}: {entry} is not {form.what}")
            if entry[0] in own:
                raise UserError(f"{key}: two are named {entry[0]}: give each its own name")
            own[entry[0]] = key, form, entry[1:]
    return own


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
    return [frame for split in test_sets(cfg).values() for frame in split]


def test_sets(cfg: CfgNode) -> dict[str, list[Frame]]:
    """Those of each split of DATASETS.TEST, by its name.

    Raises:
        UserError: a split that is named twice.
    """
    refuse_twins(cfg.DATASETS.TEST)
    return dict(zip(cfg.DATASETS.TEST, _by_split(cfg, "TEST", need_labels=False), strict=True))


def _all_frames(cfg: CfgNode, side: str, need_labels: bool) -> list[Frame]:
    return [frame for split in _by_split(cfg, side, need_labels) for frame in split]


def _by_split(cfg: CfgNode, side: str, need_labels: bool) -> list[list[Frame]]:
    key, bare = f"DATASETS.{side}", side == "UNLABELED"
    splits = [split_frames(cfg, split, key, need_labels, bare) for split in cfg.DATASETS[side]]
    # Two cities or splits may have files of the same name, and each frame has files of its own written by its name.
    names = iter(unique_names([frame["name"] for split in splits for frame in split]))
    return [[frame | {"name": next(names)} for frame in split] for split in splits]


SIDES: Mapping[str, Callable[[CfgNode], list[Frame]]] = {
    "TRAIN": training_frames,
    "UNLABELED": unlabeled_frames,
    "TEST": test_frames,
}


def images(cfg: CfgNode, side: str) -> set[str]:
    """The files of the images of DATASETS.TRAIN, UNLABELED or TEST."""
    return {frame["image"] for frame in SIDES[side](cfg)}


def contents(cfg: CfgNode, side: str) -> list[str | Path]:
    """The images and labels of DATASETS.TRAIN, UNLABELED or TEST, and how the labels are read, in order."""
    found: list[str | Path] = []
    for frame in SIDES[side](cfg):
        files = [Path(frame[kind]) if frame[kind] else "" for kind in ("image", "label")]
        how = {key: value for key, value in frame.items() if key not in ("name", "image", "label")}
        found += [*files, str(sorted(how.items()))]
    return found


def set_aside(cfg: CfgNode, share: float) -> list[str]:
    """Overrides by which the last frames of each split of DATASETS.TRAIN are DATASETS.TEST instead, as slices.

    Args:
        share: of a split's frames, between 0 and 1; at least one frame.

    Raises:
        UserError: a split that cannot be found, or of which nothing would be left.
    """
    kept, aside = [], []
    for split in cfg.DATASETS.TRAIN:
        count = len(split_frames(cfg, split, "DATASETS.TRAIN", need_labels=True))
        last = max(1, round(count * share))
        if last >= count:
            raise UserError(f"--set-aside: {share:g} of the {count} images of {split} leaves none to train on")
        parts = SPLIT.fullmatch(str(split))
        assert parts is not None  # else it has no frames
        other, name, start, _ = parts.groups("")
        name = f"{other}/{name}" if other else name
        end = int(start or 0) + count
        kept.append(f"{name}[{start}:{end - last}]")
        aside.append(f"{name}[{end - last}:{end}]")
    return ["DATASETS.TRAIN", str(kept), "DATASETS.TEST", str(aside)]
