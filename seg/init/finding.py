"""Which data sets of segmentation lie in a folder: Cityscapes', VOC's and ADE20K's formats, and folders of masks."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from densedist.common.data.images import images_in, is_hidden
from densedist.common.data.voc_lists import IMAGES as VOC_IMAGES
from densedist.common.errors import UserError
from densedist.common.init.splits import TEST, TRAIN, VAL, split_of
from densedist.seg.data.folders import LISTS, MASKS, in_one_folder, mask_end
from densedist.seg.data.formats import FORMATS
from densedist.seg.data.frames import COARSE, IMAGES, KINDS, LABELS, Frame, label_files
from densedist.seg.data.frames import frames as frames_of

WANTED = (
    "want two folders, as images and masks, whose files have the same names, for each split or of all, or "
    "Cityscapes', VOC's or ADE20K's folders"
)
OF_IMAGES = ("images", "image", "imgs", "img", "photos", "frames", "jpegimages", "input", "inputs", "rgb", "x")
OF_MASKS = (
    *("masks", "mask", "labels", "label", "annotations", "annotation", "annots", "annot", "segmentation"),
    *("segmentations", "gt", "ground_truth", "groundtruth", "target", "targets", "y"),
)
# What a folder of masks may have behind the name of its images' folder, as train and trainannot.
ENDS = ("annot", "_annot", "masks", "_masks", "_mask", "_labels", "_label", "labels", "_gt", "_annotations")


@dataclass(frozen=True)
class Found:
    """All data sets of one format.

    Args:
        form: the format in words.
        keys: those of DATASETS that name the data, but for TRAIN and TEST.
        names: of the data sets, by split.
        sets: their frames, by split.
        notes: what could not be read, and what to do about it.
    """

    form: str
    keys: Mapping[str, Any]
    names: Mapping[str, str]
    sets: Mapping[str, list[Frame]]
    notes: list[str]


def find(folder: Path) -> Found:
    """Find the data sets in a folder, or in the only folder in it that has some.

    Raises:
        UserError: there is none; with what was seen, and why it is none.
    """
    notes: list[str] = []
    for place in [folder, *(path for path in sorted(folder.glob("*/")) if not is_hidden(Path(path.name)))]:
        if (place / IMAGES).is_dir() and (found := _cityscapes(place, notes)):
            return found
        for form, key, entries in FORMS:
            if found := _declared(form, key, entries(place), notes):
                return found
    if found := _declared("folders of images and masks", "FOLDERS", _pairs(folder), notes):
        return found
    seen = [*notes, *_look_alikes(folder)]
    raise UserError(f"no data for segmentation is recognized in {folder}: {'; '.join(seen) or WANTED}")


Entries = dict[str, list[str]]  # by split: the items of an entry


def _declared(form: str, key: str, entries: Entries, notes: list[str]) -> Found | None:
    """Read the data sets of a key of DATASETS; what cannot be read is noted."""
    names, sets = {}, {}
    for split in (split for split in (TRAIN, VAL, TEST) if split in entries):
        try:
            listed = FORMATS[key].read(entries[split], f"DATASETS.{key}, {split}", split != TEST)
        except UserError as error:
            notes.append(str(error))
            continue
        if listed and all(frame["label"] for frame in listed):
            names[split], sets[split] = split, listed
        else:
            notes.append(f"{split} of {form} has images without masks: it can be DATASETS.UNLABELED of the student")
    keys = {key: [[names[split], *entries[split]] for split in names]}
    return Found(form, keys, names, sets, notes) if sets else None


def _cityscapes(root: Path, notes: list[str]) -> Found | None:
    kinds = {kind for kind in KINDS if any(file.stem.endswith(kind) for file in label_files(root))}
    kind = KINDS[0] if KINDS[0] in kinds else KINDS[1]
    names, sets = {}, {}
    for place in sorted((root / IMAGES).glob("*/")):
        split = split_of(place.name)
        if not split or split in names:
            continue
        if not any((root / part / place.name).is_dir() for part in (LABELS, COARSE)):
            notes.append(f"{place} has no labels: it can be DATASETS.UNLABELED of the student")
            continue
        try:
            sets[split] = frames_of(str(root), place.name, "DATASETS.ROOT", True, kind)
            names[split] = place.name
        except UserError as error:
            notes.append(str(error))
    keys = {"ROOT": str(root)} | ({"LABELS": kind} if kind != KINDS[0] else {})
    return Found("Cityscapes' format", keys, names, sets, notes) if sets else None


def _voc(root: Path) -> Entries:
    if not ((root / VOC_IMAGES).is_dir() and (root / MASKS).is_dir()):
        return {}
    lists = sorted((root / LISTS).glob("*.txt"))
    return {split: [str(root), file.stem] for file in lists if (split := _alone(file.stem))}


def _ade(root: Path) -> Entries:
    splits = {TRAIN: "training", VAL: "validation", TEST: "testing"}
    return {
        split: [str(root), name]
        for split, name in splits.items()
        if all((root / part / name).is_dir() for part in ("images", "annotations"))
    }


def _alone(name: str) -> str:
    """Return the split of a name that is nothing but a split's: trainval is none."""
    return split_of(name) if re.fullmatch("[a-z]+", name.lower()) else ""


def _pairs(folder: Path) -> Entries:
    """Find pairs of folders, the names of whose masks' folder is that of the images' one with a word of masks."""
    try:
        there = {file.parent.relative_to(folder) for file in images_in(folder)}
    except UserError:
        return {}
    found: dict[str, list[tuple[Path, Path]]] = defaultdict(list)
    for images, masks in dict.fromkeys(pair for place in sorted(there) for pair in _partners(place, there)):
        found[split_of(images) or TRAIN].append((folder / images, folder / masks))
    return {split: [str(images), str(masks)] for split, ((images, masks), *_) in found.items()}


def _partners(images: Path, there: set[Path]) -> Iterator[tuple[Path, Path]]:
    """Yield a folder of images and its folder of masks, as far up as they are those of one split."""
    for place, part in enumerate(images.parts):
        others = [word for word in OF_MASKS if part.lower() in OF_IMAGES] + [f"{part}{end}" for end in ENDS]
        others += [word.capitalize() for word in others]
        for other in others:
            masks = Path(*images.parts[:place], other, *images.parts[place + 1 :])
            if masks in there:
                stop = next((n + 1 for n in range(place, len(images.parts)) if split_of(images.parts[n])), place + 1)
                yield Path(*images.parts[:stop]), Path(*masks.parts[:stop])


def _look_alikes(folder: Path) -> Iterator[str]:
    """Say what looks like masks that are not read as they lie there."""
    try:
        files = images_in(folder)
    except UserError as error:
        yield str(error)
        return
    stems: dict[Path, set[str]] = defaultdict(set)
    for file in files:
        stems[file.parent].add(file.with_suffix("").name)
    for place, names in stems.items():
        count = sum(file.parent == place for file in files)
        if count > len(names) or mask_end(names):
            yield in_one_folder(place, "" if count > len(names) else mask_end(names))


FORMS = (("Pascal VOC's format", "VOC_FORMAT", _voc), ("ADE20K's format", "ADE20K_FORMAT", _ade))
