"""Ground truth in COCO format, read once and put into the one shape that everything after it sees."""

import json
import logging
import math
import os
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeGuard
from urllib.parse import unquote

from densedist.common.errors import UserError
from densedist.det.data.duplicates import Entry, merge_duplicates
from densedist.det.data.masks import UnreadableError, box_as_mask, readable

logger = logging.getLogger(__name__)
ENTRIES: Mapping[str, tuple[str, ...]] = {
    "images": ("id", "file_name", "height", "width"),
    "categories": ("id", "name"),
    "annotations": ("image_id", "category_id", "bbox"),
}


@dataclass(frozen=True)
class Coco:
    """Images, categories and annotations, in COCO's format.

    Whatever the file had, ids of images and categories are whole numbers, those of annotations count from 1 (for
    pycocotools an object 0 is never found), names are text, every annotation has its area in pixels and an iscrowd of
    0 or 1, and a segmentation is one that can be read, or not there. A crowd without one has its box as its mask, which
    pycocotools asks for. An image is listed once. "given" is the id that the file has.

    Args:
        source: the file.
        has_labels: whether the file has annotations at all, if only none.
        renumbered: whether images or categories have other ids than in the file.
        duplicates: how many listings of images the file has after the first one of each.
    """

    source: str
    images: list[Entry]
    categories: list[Entry]
    annotations: list[Entry]
    has_labels: bool = True
    renumbered: bool = False
    duplicates: int = 0

    @property
    def objects(self) -> list[Entry]:
        """Return the annotations that can be learned and found: no crowds."""
        return [annotation for annotation in self.annotations if not annotation["iscrowd"]]

    def part(self, start: int | None, stop: int | None) -> "Coco":
        """Return a slice of the images, in the order of their ids, with their annotations."""
        images = self.images[start:stop]
        ids = {image["id"] for image in images}
        return replace(self, images=images, annotations=[a for a in self.annotations if a["image_id"] in ids])

    @property
    def names(self) -> list[str]:
        """Return the names of the classes, in the order of their numbers."""
        return [category["name"] for category in self.categories]


def read_coco(json_file: str) -> Coco:
    """Read the ground truth of a file in COCO format; a file that has not changed is not read again.

    Raises:
        UserError: it cannot be read, is no JSON, has no such entries, or they contradict each other.
    """
    try:
        about = os.stat(json_file)
    except OSError as error:
        raise UserError(f"{json_file} cannot be read: {error.strerror}") from error
    return _read(json_file, about.st_mtime_ns, about.st_size)


def image_file(root: str, name: str) -> str:
    """Return the path of an image: its name in the root, or, where there is no such file, its name decoded.

    Windows writes a backslash for a slash; what is made for the web writes a blank as %20.
    """
    file = os.path.join(root, name)
    if ("\\" not in name and "%" not in name) or os.path.isfile(file):
        return file
    slashed = name.replace("\\", "/")
    others = (os.path.join(root, other) for other in (slashed, unquote(name), unquote(slashed)))
    return next((other for other in others if os.path.isfile(other)), file)


def forget() -> None:
    """Give back the memory of all files that were read."""
    _read.cache_clear()


@lru_cache(maxsize=4)
def _read(json_file: str, _: int, __: int) -> Coco:
    try:
        content = json.loads(Path(json_file).read_bytes())  # in UTF-8 or another form of Unicode, marked or not
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{json_file} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{json_file} is not a COCO JSON file: want an object with {', '.join(ENTRIES)}")
    found = {kind: _entries(content, kind, keys, json_file) for kind, keys in ENTRIES.items()}
    images, new_images = _numbered(found["images"], "images", json_file)
    categories, new_categories = _numbered(found["categories"], "categories", json_file)
    categories = [c | {"name": _name(c, json_file)} for c in categories]
    _refuse_duplicates(f"{json_file}: names of categories", [c["name"].strip() for c in categories])
    _warn_of_cases(json_file, [c["name"] for c in categories])
    if new_images is not None:
        logger.warning(f"{json_file}: image ids are not whole numbers of 64 bits: images are numbered from 1, in order")
    annotations = _annotations(found["annotations"], (images, categories), json_file)
    renumbered = new_images is not None or new_categories is not None
    images, annotations, duplicates = merge_duplicates(images, annotations, json_file)
    return Coco(json_file, images, categories, annotations, "annotations" in content, renumbered, duplicates)


def _entries(content: Entry, kind: str, keys: tuple[str, ...], json_file: str) -> list[Entry]:
    # A test set has none.
    entries = content.get(kind, [] if kind == "annotations" else None)
    if not isinstance(entries, list):
        raise UserError(f"{json_file} is not a COCO JSON file: want a list of {kind}")
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise UserError(f"{json_file}: number {number} of {kind} is {entry!r}, not an object")
        if missing := [key for key in keys if key not in entry]:
            raise UserError(f"{json_file}: number {number} of {kind} has no {missing[0]}")
        if not all(isinstance(entry[key], Hashable) for key in keys if key != "bbox"):
            raise UserError(f"{json_file}: number {number} of {kind} has a list or an object for {', '.join(keys)}")
        if "height" in keys and not all(_is_length(entry[key]) for key in ("height", "width")):
            raise UserError(f"{json_file}: image {entry['id']}: height and width are not whole numbers above 0")
        if "file_name" in keys and not isinstance(entry["file_name"], str):
            raise UserError(f"{json_file}: image {entry['id']}: file_name is {entry['file_name']!r}: want text")
    return entries


def is_number(value: Any) -> TypeGuard[float]:
    """Return whether it is a number of JSON that a float can hold; it may be infinite, or not a number."""
    return type(value) is float or (type(value) is int and abs(value) < 2**53)


def _is_length(value: Any) -> bool:
    return is_number(value) and value > 0 and float(value).is_integer()


def _whole(value: Hashable) -> Hashable:
    """Return 1 for 1.0."""
    return int(value) if type(value) is float and value.is_integer() else value


def _numbered(entries: list[Entry], kind: str, json_file: str) -> tuple[list[Entry], dict[Hashable, int] | None]:
    """Return copies with whole numbers as ids, in their order, and the new id of each; None where all stay as given."""
    given = [_whole(entry["id"]) for entry in entries]
    _refuse_duplicates(f"{json_file}: ids of {kind}", given)
    fit = all(type(i) is int and -(2**63) <= i < 2**63 for i in given)  # as NumPy's, which pycocotools sorts them by
    new = None if fit else {i: number for number, i in enumerate(given, 1)}
    sizes = [{key: int(entry[key]) for key in ("height", "width") if kind == "images"} for entry in entries]
    numbered = [
        entry | size | {"id": new[i] if new else i, "given": i}
        for entry, size, i in zip(entries, sizes, given, strict=True)
    ]
    return sorted(numbered, key=lambda entry: entry["id"]), new


def _name(category: Entry, json_file: str) -> str:
    name = category["name"]
    if isinstance(name, bool) or not isinstance(name, (str, int, float)) or not str(name).strip():
        raise UserError(f"{json_file}: category {category['given']}: name is {name!r}: want text")
    return str(name)


def _annotations(entries: list[Entry], others: tuple[list[Entry], list[Entry]], json_file: str) -> list[Entry]:
    _refuse_duplicates(f"{json_file}: ids of annotations", [i for entry in entries if (i := _id(entry)) is not None])
    known = {
        kind: {entry["given"]: entry["id"] for entry in group} for kind, group in zip(ENTRIES, others, strict=False)
    }
    for kind, key in (("images", "image_id"), ("categories", "category_id")):
        if lost := [(n, a) for n, a in enumerate(entries) if _whole(a[key]) not in known[kind]]:
            number, first = lost[0]
            raise UserError(
                f"{json_file}: the {key} of {len(lost)} annotations is not among the {kind}, first annotation "
                f"{_given(first, number)} with {first[key]!r}: add it, or remove them"
            )
    if ignored := [a for a in entries if a.get("ignore")]:
        raise UserError(
            f'{json_file}: {len(ignored)} annotations have "ignore", first annotation {ignored[0].get("id")}, which '
            "Detectron2 refuses: set their iscrowd to 1 instead, or remove them"
        )
    sizes = {image["id"]: (image["height"], image["width"]) for image in others[0]}
    poses = [entry["keypoints"] for entry in entries if isinstance(entry.get("keypoints"), list)]
    result, filled, points = [], 0, max(map(len, poses), default=0)
    for number, entry in enumerate(entries, 1):
        given = _given(entry, number - 1)
        where = f"{json_file}: annotation {given}"
        image = known["images"][_whole(entry["image_id"])]
        category = known["categories"][_whole(entry["category_id"])]
        box, crowd = _box(entry, where), _crowd(entry, where)
        if crowd and not all(map(math.isfinite, box)):
            raise UserError(f"{where}: iscrowd is 1, but bbox is {box}: want numbers of pixels")
        area = _area(entry, box, where)
        filled += area != entry.get("area")
        annotation = {key: value for key, value in entry.items() if key != "segmentation"}
        annotation |= {"id": number, "given": given, "image_id": image, "category_id": category}
        annotation |= {"bbox": box, "iscrowd": crowd, "area": area}
        annotation |= _pose(entry, points) if points else {}
        try:
            mask = readable(entry.get("segmentation"), *sizes[image])
        except UnreadableError as error:
            annotation["unreadable"] = str(error)
        else:
            mask = box_as_mask(box) if mask is None and crowd else mask
            annotation |= {} if mask is None else {"segmentation": mask}
        result.append(annotation)
    if filled:
        logger.info(f"{json_file}: {filled} annotations have no area above 0: it is computed from their boxes")
    return result


def _box(entry: Entry, where: str) -> list[float]:
    box = entry["bbox"]
    if not (isinstance(box, list) and len(box) == 4 and all(map(is_number, box))):
        raise UserError(f"{where}: bbox is {box!r}: want [x, y, w, h]")
    return box


def _pose(entry: Entry, length: int) -> Entry:
    """Return what pycocotools asks of every object where one has keypoints; without a visible one they do not count."""
    given = entry.get("keypoints")
    keypoints = given if isinstance(given, list) and given else [0] * length
    visible = sum(bool(seen) for seen in keypoints[2::3])
    return {"keypoints": keypoints, "num_keypoints": entry.get("num_keypoints", visible)}


def _crowd(entry: Entry, where: str) -> int:
    crowd = entry.get("iscrowd") or 0
    if crowd not in (0, 1):
        raise UserError(f"{where}: iscrowd is {crowd!r}: want 0 or 1")
    return int(crowd)


def _area(entry: Entry, box: list[float], where: str) -> float:
    """Return the area as given, or the box's: a negative one would take the object out of the evaluation."""
    area = entry.get("area")
    if area is not None and not is_number(area):
        raise UserError(f"{where}: area is {area!r}: want a number of pixels")
    return area if area is not None and math.isfinite(area) and area > 0 else box[2] * box[3]


def _id(entry: Entry) -> Hashable:
    """Return the id of an annotation, or None."""
    value = entry.get("id")
    return value if isinstance(value, Hashable) else str(value)


def _given(entry: Entry, number: int) -> Hashable:
    """Return the annotation's id, or its number in the file."""
    given = _id(entry)
    return f"number {number}" if given is None else given


def _warn_of_cases(json_file: str, names: Sequence[str]) -> None:
    spellings: dict[str, list[str]] = {}
    for name in names:
        spellings.setdefault(name.strip().casefold(), []).append(name)
    if duplicates := [of_name for of_name in spellings.values() if len(of_name) > 1]:
        logger.warning(
            f"{json_file}: {' and '.join(map(repr, duplicates[0]))} are different categories: is this intended?"
        )


def _refuse_duplicates(what: str, values: Iterable[Hashable]) -> None:
    if duplicates := [value for value, count in Counter(values).items() if count > 1]:
        raise UserError(f"{what} are given twice, first of {len(duplicates)}: {duplicates[0]!r}; make them unique")
