"""Images and labels in Cityscapes' format: which files there are."""

import os
import re
import time
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from densedist.common.data import digits
from densedist.common.data.images import SUFFIXES, is_hidden
from densedist.common.data.packed import SETTLED
from densedist.common.errors import UserError
from densedist.common.nearest import did_you_mean_path

IMAGES, LABELS, COARSE = "leftImg8bit", "gtFine", "gtCoarse"
KINDS = ("labelIds", "labelTrainIds")  # what the pixels of a label are; its file's name ends in it
# Another folder than DATASETS.ROOT, a name, and where a slice of it starts and stops.
SPLIT = re.compile(r"(?:([^\[\]]*)/)?([^\[\]/]+)(?:\[(\d*):(\d*)\])?")
LABEL_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")  # of formats that keep numbers as they are
TREE = f"want {IMAGES}/SPLIT/CITY/*_{IMAGES}.png, and labels {LABELS}/SPLIT/CITY/*_{LABELS}_labelIds.png"
# The key of the teacher's scores of a label, where they count: in a frame the path of their file; in a sample its
# probabilities times 255, uint8 (H, W).
SCORES = "scores"
# A frame: {"name": CITY_SEQ_FRAME of its own, "image": path, "label": path or None}. Beside these "colors": True where
# labels may have the colors of classes, "train_ids": True where they have trainIds instead of labelIds, and
# common.data.sides.MARK where a teacher wrote the label, and SCORES.
Frame = dict[str, Any]


def frames(root: str, split: str, key: str, need_labels: bool, kind: str = KINDS[0]) -> list[Frame]:
    """List the frames of a split, sorted by path; labels are those of gtFine, or of gtCoarse where it has the split.

    Args:
        root: a folder in Cityscapes' format, or "digits".
        split: a folder of leftImg8bit, of another root as in "output/labels/train", or a part of its frames as in
            "train[:100]".
        key: the config key that names the split, for messages.
        need_labels: without them a split may have no label at all, as Cityscapes' test split.
        kind: of labels, one of KINDS; where there are none of labelTrainIds, labelIds, which `densedist label` writes.

    Raises:
        UserError: a missing folder, a split without images, an image without its label.
    """
    parts = SPLIT.fullmatch(str(split))
    if not parts:
        raise UserError(f"{key}: {split} is not a split's name, or one with a slice, as train[:100]")
    other, name, start, stop = parts.groups()
    if not (other or root):
        raise UserError("DATASETS.ROOT is empty: name the data set's folder")
    folder = digits.ensure() if root == "digits" and other is None else Path(other or root).expanduser()
    if not (place := folder / IMAGES / name).is_dir():
        raise UserError(f"{key}: there is no folder {place}; {TREE}{did_you_mean_path(place)}")
    stamps = [stamp for part in (IMAGES, LABELS, COARSE) for stamp in _stamps(folder / part / name)]
    about = folder, split, name, start, stop, key, need_labels, kind, tuple(stamps)
    settled = time.time_ns() - max(changed for _, changed in stamps) > SETTLED
    found = _listed(*about) if settled else _listed.__wrapped__(*about)
    return [frame.copy() for frame in found]


def _stamps(folder: Path) -> list[tuple[str, int]]:
    """Return when a folder and those in it have last changed; nothing of one that is not there."""
    if not folder.is_dir():
        return []
    places = [folder, *(Path(entry.path) for entry in os.scandir(folder) if entry.is_dir())]
    return sorted((str(place), place.stat().st_mtime_ns) for place in places)


@lru_cache(maxsize=16)
def _listed(
    folder: Path,
    split: str,
    name: str,
    start: str | None,
    stop: str | None,
    key: str,
    need_labels: bool,
    kind: str,
    _: tuple[tuple[str, int], ...],
) -> list[Frame]:
    """List frames, once as long as no file comes or goes; see frames()."""
    images = image_files(folder / IMAGES, name)
    double = [stem for stem, count in Counter(image.with_suffix("") for image in images).items() if count > 1]
    if double:
        raise UserError(f"{key}: there are several images {double[0]}.*: want one")
    images = images[int(start) if start else None : int(stop) if stop else None]
    if not images:
        raise UserError(f"{key}: no image of {split} in {folder / IMAGES / name}; {TREE}")
    there = [part for part in (LABELS, COARSE) if (folder / part / name).is_dir()]
    if not there and not need_labels:
        return [_frame(image, None) for image in images]
    part = there[0] if there else LABELS
    return [_frame(image, _label(image, folder, part, kind, key)) for image in images]


def _label(image: Path, folder: Path, part: str, kind: str, key: str) -> Path:
    """Find the label of an image in a folder gtFine or gtCoarse."""
    beside = folder / part / image.parent.relative_to(folder / IMAGES)
    names = [f"{_name(image)}_{part}_{one}{suffix}" for one in (kind, KINDS[0]) for suffix in LABEL_SUFFIXES]
    for name in names:
        if (label := beside / name).is_file():
            return label
    raise UserError(f"{key}: image {image} has no label {beside / names[0]}; {TREE}")


def _frame(image: Path, label: Path | None) -> Frame:
    frame = {"name": _name(image), "image": str(image), "label": str(label) if label else None}
    return frame | {"train_ids": True} if label and label.stem.endswith(KINDS[1]) else frame


def _name(image: Path) -> str:
    return image.stem.removesuffix(f"_{IMAGES}")


def scores_file(label: str) -> str:
    """Return the file of the scores of a label that a teacher wrote: its probabilities times 255, in 8 bits."""
    return f"{label.rpartition('_')[0]}_scores.png"


def image_files(folder: Path, split: str = "*") -> list[Path]:
    """List the images of splits in a folder leftImg8bit, sorted."""
    found = folder.glob(f"{split}/*/*_{IMAGES}.*")
    return sorted(x for x in found if x.suffix.lower() in SUFFIXES and not is_hidden(x.relative_to(folder)))


def label_files(folder: Path) -> list[Path]:
    """List the labels of all splits in a folder in Cityscapes' format, sorted."""
    names = [f"{part}/*/*/*_{part}_{kind}.*" for part in (LABELS, COARSE) for kind in KINDS]
    found = (x for name in names for x in folder.glob(name))
    return sorted(x for x in found if x.suffix in LABEL_SUFFIXES and not is_hidden(x.relative_to(folder)))


def bare_frames(files: Mapping[str, Path]) -> list[Frame]:
    """Return frames of any image files, by name, without labels."""
    return [{"name": name, "image": str(file), "label": None} for name, file in files.items()]
