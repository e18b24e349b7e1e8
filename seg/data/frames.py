"""Images and labels in Cityscapes' form: which files there are."""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from densedist.common.data import digits
from densedist.common.data.images import SUFFIXES
from densedist.common.errors import UserError

IMAGES, LABELS = "leftImg8bit", "gtFine"
# Another folder than DATASETS.ROOT, a name, and where a slice of it starts and stops.
SPLIT = re.compile(r"(?:([^\[\]]*)/)?([^\[\]/]+)(?:\[(\d*):(\d*)\])?")
LABEL_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")  # of formats that keep numbers as they are
TREE = f"want {IMAGES}/SPLIT/CITY/*_{IMAGES}.png, and labels {LABELS}/SPLIT/CITY/*_{LABELS}_labelIds.png"
# A frame: {"name": CITY_SEQ_FRAME of its own, "image": path, "label": path or None}
Frame = dict[str, Any]


def frames(root: str, split: str, key: str, need_labels: bool) -> list[Frame]:
    """The frames of a split, sorted by path.

    Args:
        root: a folder in Cityscapes' form, or "digits".
        split: a folder of leftImg8bit, of another root as in "output/labels/train", or a part of its frames as in
            "train[:100]".
        key: the config key that names the split, for messages.
        need_labels: without them a split may have no label at all, as Cityscapes' test split.

    Raises:
        UserError: a missing folder, a split without images, an image without its label.
    """
    if not root:
        raise UserError("DATASETS.ROOT is empty: name the data set's folder")
    parts = SPLIT.fullmatch(str(split))
    if not parts:
        raise UserError(f"{key}: {split} is not a split's name, or one with a slice, as train[:100]")
    other, name, start, stop = parts.groups()
    folder = digits.ensure() if root == "digits" and other is None else Path(other or root).expanduser()
    if not (folder / IMAGES / name).is_dir():
        raise UserError(f"{key}: there is no folder {folder / IMAGES / name}; {TREE}")
    images = image_files(folder / IMAGES, name)
    double = [stem for stem, count in Counter(image.with_suffix("") for image in images).items() if count > 1]
    if double:
        raise UserError(f"{key}: there are several images {double[0]}.*: want one")
    images = images[int(start) if start else None : int(stop) if stop else None]
    if not images:
        raise UserError(f"{key}: no image of {split} in {folder / IMAGES / name}; {TREE}")
    labeled = need_labels or (folder / LABELS / name).is_dir()
    return [_frame(image, folder, key, labeled) for image in images]


def _frame(image: Path, folder: Path, key: str, labeled: bool) -> Frame:
    name = image.stem.removesuffix(f"_{IMAGES}")
    label = folder / LABELS / image.parent.relative_to(folder / IMAGES) / f"{name}_{LABELS}_labelIds.png"
    if labeled and not label.is_file():
        others = filter(Path.is_file, map(label.with_suffix, LABEL_SUFFIXES))
        if not (other := next(others, None)):
            raise UserError(f"{key}: image {image} has no label {label}; {TREE}")
        label = other
    return {"name": name, "image": str(image), "label": str(label) if labeled else None}


def image_files(folder: Path, split: str = "*") -> list[Path]:
    """The images of splits in a folder leftImg8bit, sorted."""
    return sorted(x for x in folder.glob(f"{split}/*/*_{IMAGES}.*") if x.suffix.lower() in SUFFIXES)


def label_files(folder: Path) -> list[Path]:
    """The images of labelIds of all splits in a folder gtFine, sorted."""
    return sorted(x for x in folder.glob(f"*/*/*_{LABELS}_labelIds.*") if x.suffix in LABEL_SUFFIXES)


def bare_frames(files: Mapping[str, Path]) -> list[Frame]:
    """Frames of any image files, by name, without labels."""
    return [{"name": name, "image": str(file), "label": None} for name, file in files.items()]
