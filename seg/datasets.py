"""The data sets of DATASETS, by side: frames in Cityscapes' format, in one of FORMATS or a folder."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from detectron2.config import CfgNode

from densedist.common.config.formats import Format
from densedist.common.data import digits
from densedist.common.data.confidence import Confidence
from densedist.common.data.images import unique_names
from densedist.common.data.sides import LABELED, MARK
from densedist.common.errors import UserError
from densedist.common.labeling import RECORD
from densedist.common.nearest import did_you_mean, did_you_mean_path
from densedist.common.task import refuse_twins
from densedist.seg.data import folders
from densedist.seg.data.formats import FORMATS
from densedist.seg.data.frames import IMAGES, SCORES, SPLIT, Frame, frames, scores_file
from densedist.seg.labels import IGNORE, UNKNOWN, Classes

# In the record of labels that a teacher wrote: the labelId of each class that occurs, and that of pixels without one.
LABEL_IDS, IGNORED_ID = "label_ids", "ignored_id"


def split_frames(cfg: CfgNode, split: str, key: str, need_labels: bool, may_be_bare: bool = False) -> list[Frame]:
    """List the frames of a split of DATASETS.ROOT, of a data set that a key of FORMATS declares, or of a folder.

    Args:
        split: its name, or a part of it, as in "train[:100]".
        key: the config key that names the split, for messages.
        need_labels: see frames().
        may_be_bare: the split may be the path of a folder of images without labels.

    Raises:
        UserError: see frames() and FORMATS; an entry of another form, or two of one name.
    """
    declared = _declared(cfg)
    parts = SPLIT.fullmatch(str(split))
    other, name, start, stop = parts.groups() if parts else (None, "", None, None)
    part = slice(int(start) if start else None, int(stop) if stop else None)
    whole = Path(other or "", name)
    if other is None and name in declared:
        if _is_split(cfg, None, name):
            raise UserError(f"{declared[name][0]}: {name} is a split of DATASETS.ROOT, too: give it another name")
        named_by, format, where = declared[name]
        found = format.read(where, f"{named_by}, {name}", need_labels)[part]
    elif may_be_bare and name and whole.expanduser().is_dir() and not _is_split(cfg, other, name):
        found = folders.alone(str(whole), key)[part]
    elif declared and not (other or cfg.DATASETS.ROOT):
        near = did_you_mean(name, declared) or (did_you_mean_path(whole) if may_be_bare else "")
        if may_be_bare:
            raise UserError(f"{key}: there is no folder {whole}, nor a data set of this name{near}")
        wanted = f"want one of {', '.join(declared)}, or set DATASETS.ROOT"
        raise UserError(f"{key}: there is no data set {split}: {wanted}{near}")
    elif may_be_bare and other and not (Path(other).expanduser() / IMAGES).is_dir():
        raise UserError(f"{key}: there is no folder {whole}{did_you_mean_path(whole)}")
    elif may_be_bare and name and not _is_split(cfg, other, name):
        root = other or cfg.DATASETS.ROOT
        near = did_you_mean(name, _splits(root)) or did_you_mean_path(whole)
        or_split = f", nor a split of this name in DATASETS.ROOT, {root}" if root else ""
        raise UserError(f"{key}: there is no folder {whole}{or_split}{near}")
    else:
        if need_labels:
            _check_record(whole.parent if other else Path(cfg.DATASETS.ROOT), Classes.of(cfg), key)
        return frames(cfg.DATASETS.ROOT, split, key, need_labels, cfg.DATASETS.LABELS)
    if not found:
        raise UserError(f"{key}: {split} has no image")
    return found


def training_frames(cfg: CfgNode) -> list[Frame]:
    """List the frames of DATASETS.TRAIN, all with labels."""
    return _all_frames(cfg, "TRAIN", need_labels=True)


def pseudo_labeled_frames(cfg: CfgNode) -> list[Frame]:
    """List the frames of DATASETS.PSEUDO_LABELED, all with labels that a teacher wrote, and marked.

    Where PSEUDO_LABELS asks for scores, they have the files of these.

    Raises:
        UserError: a label without its scores.
    """
    found = [frame | {MARK: True} for frame in _all_frames(cfg, "PSEUDO_LABELED", need_labels=True)]
    confidence = Confidence.of(cfg)
    return [frame | {SCORES: _scores(frame, confidence)} for frame in found] if confidence.needs_scores else found


def _scores(frame: Frame, confidence: Confidence) -> str:
    file = scores_file(frame["label"])
    if not Path(file).is_file():
        raise UserError(
            f"DATASETS.PSEUDO_LABELED: {confidence.asked}, but {frame['label']} has no scores {file}: let the teacher "
            "write the labels again, or set it to its default"
        )
    return file


def labeled_frames(cfg: CfgNode) -> list[Frame]:
    """List all frames whose labels are learned, those with true labels first."""
    return [frame for side in LABELED for frame in SIDES[side](cfg)]


def unlabeled_frames(cfg: CfgNode) -> list[Frame]:
    """List the frames of DATASETS.UNLABELED, without the labels that some may have."""
    return [frame | {"label": None} for frame in _all_frames(cfg, "UNLABELED", need_labels=False)]


def test_frames(cfg: CfgNode) -> list[Frame]:
    """List the frames of DATASETS.TEST, with labels where the split has them."""
    return [frame for split in test_sets(cfg).values() for frame in split]


def test_sets(cfg: CfgNode) -> dict[str, list[Frame]]:
    """List the frames of each split of DATASETS.TEST, by its name.

    Raises:
        UserError: a split that is named twice.
    """
    refuse_twins(cfg.DATASETS.TEST)
    return dict(zip(cfg.DATASETS.TEST, _by_split(cfg, "TEST", need_labels=False), strict=True))


SIDES: Mapping[str, Callable[[CfgNode], list[Frame]]] = {
    "TRAIN": training_frames,
    "PSEUDO_LABELED": pseudo_labeled_frames,
    "UNLABELED": unlabeled_frames,
    "TEST": test_frames,
}


def images(cfg: CfgNode, side: str) -> set[str]:
    """Return the image files of a side of DATASETS."""
    return {frame["image"] for frame in SIDES[side](cfg)}


def contents(cfg: CfgNode, side: str) -> list[str | Path]:
    """List all that training and scores depend on in a side of DATASETS, in order.

    A path stands for what is in the file; how labels are read stands as text.
    """
    found: list[str | Path] = []
    for frame in SIDES[side](cfg):
        kinds = ("image", "label", *([SCORES] if SCORES in frame else []))
        files = [Path(frame[kind]) if frame[kind] else "" for kind in kinds]
        how = {key: value for key, value in frame.items() if key not in ("name", *kinds)}
        found += [*files, str(sorted(how.items()))]
    return found


def set_aside(cfg: CfgNode, share: float) -> list[str]:
    """Return overrides that move the last frames of each split of DATASETS.TRAIN to DATASETS.TEST, as slices.

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


def _all_frames(cfg: CfgNode, side: str, need_labels: bool) -> list[Frame]:
    return [frame for split in _by_split(cfg, side, need_labels) for frame in split]


def _by_split(cfg: CfgNode, side: str, need_labels: bool) -> list[list[Frame]]:
    key, bare = f"DATASETS.{side}", side == "UNLABELED"
    splits = [split_frames(cfg, split, key, need_labels, bare) for split in cfg.DATASETS[side]]
    # Two cities or splits may have files of the same name, and each frame has files of its own written by its name.
    names = iter(unique_names([frame["name"] for split in splits for frame in split]))
    return [[frame | {"name": next(names)} for frame in split] for split in splits]


def _declared(cfg: CfgNode) -> dict[str, tuple[str, Format, Sequence[str]]]:
    """Return for each data set that FORMATS declare the key that names it, its format, and where it is."""
    declared: dict[str, tuple[str, Format, Sequence[str]]] = {}
    for name, form in FORMATS.items():
        key = f"DATASETS.{name}"
        for entry in cfg.DATASETS[name]:
            words = isinstance(entry, (list, tuple)) and all(isinstance(word, str) for word in entry)
            if not (words and len(entry) in form.sizes):
                raise UserError(f"{key}: {entry} is not {form.entry}")
            if entry[0] in declared:
                raise UserError(f"{key}: two are named {entry[0]}: give each its own name")
            declared[entry[0]] = key, form, entry[1:]
    return declared


def _is_split(cfg: CfgNode, other: str | None, name: str) -> bool:
    return name in _splits(other or cfg.DATASETS.ROOT)


def _splits(root: str) -> list[str]:
    """List the splits of a folder in Cityscapes' format; none of what is no such folder."""
    folder = (digits.ensure() if root == "digits" else Path(root).expanduser()) / IMAGES
    return [place.name for place in folder.iterdir() if place.is_dir()] if root and folder.is_dir() else []


def _check_record(folder: Path, classes: Classes, key: str) -> None:
    """Make sure that labelIds which a teacher wrote mean the same in its record and in the config.

    Args:
        folder: in Cityscapes' format.
        key: the config key that names it, for messages.

    Raises:
        UserError: a labelId stands for another class.
    """
    file = folder / RECORD
    record = json.loads(file.read_text()) if file.is_file() else {}
    meant = record.get(LABEL_IDS, {}) | ({"ignored": record[IGNORED_ID]} if IGNORED_ID in record else {})
    for name, label_id in meant.items():
        number = int(classes.train_ids[label_id])
        # What the config does not name is refused where it is read.
        if number not in (IGNORE, UNKNOWN) and classes.names[number] != name:
            raise UserError(
                f"{key}: labelId {label_id} in {folder} means {name} by {file}, but {classes.names[number]} by "
                "DATASETS.CLASSES and IGNORED_IDS: give the teacher's config the names and ids of this one, and "
                "write the labels again"
            )
