"""A file in COCO format: read, checked, and put into the shape of Coco.

That all entries are as they should be shows at a glance, in columns; otherwise they are looked at one by one, and the
first that is wrong is named.
"""

import json
import logging
import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from densedist.common.errors import UserError
from densedist.det.data.duplicates import Entry, merge_duplicates
from densedist.det.data.masks import BLOCK, UnreadableError, are_plain, box_as_mask, readable

logger = logging.getLogger(__name__)
ENTRIES: Mapping[str, tuple[str, ...]] = {
    "images": ("id", "file_name", "height", "width"),
    "categories": ("id", "name"),
    "annotations": ("image_id", "category_id", "bbox"),
}
HASHABLE = {int, float, str, bool, type(None)}  # of JSON's values


@dataclass(frozen=True)
class Content:
    """What a file has, in the shape that Coco says; annotations in the order of the file."""

    images: list[Entry]
    categories: list[Entry]
    annotations: list[Entry]
    has_labels: bool
    renumbered: bool
    duplicates: int


def read_content(json_file: str) -> Content:
    """Read a file in COCO format.

    Raises:
        UserError: it cannot be read, is no JSON, has no such entries, or they contradict each other.
    """
    return _checked(_parsed(json_file), json_file)


def is_number(value: Any) -> TypeGuard[float]:
    """Return whether it is a number of JSON that a float can hold; it may be infinite, or not a number."""
    return type(value) is float or (type(value) is int and abs(value) < 2**53)


def _parsed(json_file: str) -> dict[str, Any]:
    try:
        content = json.loads(_text(json_file))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{json_file} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{json_file} is not a COCO JSON file: want an object with {', '.join(ENTRIES)}")
    return content


def _text(json_file: str) -> str:
    """Return the text of a file in UTF-8 or another form of Unicode, marked or not, as json.loads would decode it."""
    content = Path(json_file).read_bytes()
    return content.decode(json.detect_encoding(content), "surrogatepass")


def _checked(content: dict[str, Any], json_file: str) -> Content:
    found = {kind: _entries(content, kind, keys, json_file) for kind, keys in ENTRIES.items()}
    has_labels = "annotations" in content
    content.clear()
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
    return Content(images, categories, annotations, has_labels, renumbered, duplicates)


def _entries(content: Entry, kind: str, keys: tuple[str, ...], json_file: str) -> list[Entry]:
    # A test set has none.
    entries = content.get(kind, [] if kind == "annotations" else None)
    if not isinstance(entries, list):
        raise UserError(f"{json_file} is not a COCO JSON file: want a list of {kind}")
    if _have(entries, keys):
        return entries
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


def _have(entries: list[Any], keys: tuple[str, ...]) -> bool:
    """Return whether, at a glance, all entries are objects that have these keys, with values as they should be."""
    if not set(map(type, entries)) <= {dict} or not all("bbox" in entry for entry in entries if "bbox" in keys):
        return False
    try:
        values = {key: [entry[key] for entry in entries] for key in keys if key != "bbox"}
    except KeyError:
        return False
    types = {key: set(map(type, column)) for key, column in values.items()}
    if not set().union(*types.values()) <= HASHABLE or not types.get("file_name", set()) <= {str}:
        return False
    sides = [*values.get("height", []), *values.get("width", [])]
    return not sides or (set(map(type, sides)) == {int} and min(sides) > 0 and max(sides) < 2**53)


def _is_length(value: Any) -> bool:
    return is_number(value) and value > 0 and float(value).is_integer()


def _whole(value: Hashable) -> Hashable:
    """Return 1 for 1.0."""
    return int(value) if type(value) is float and value.is_integer() else value


def _numbered(entries: list[Entry], kind: str, json_file: str) -> tuple[list[Entry], dict[Hashable, int] | None]:
    """Let entries have whole numbers as ids, and sort them by these; return the new id of each, None where all stay."""
    given = [_whole(entry["id"]) for entry in entries]
    _refuse_duplicates(f"{json_file}: ids of {kind}", given)
    fit = all(type(i) is int and -(2**63) <= i < 2**63 for i in given)  # as NumPy's, which pycocotools sorts them by
    new = None if fit else {i: number for number, i in enumerate(given, 1)}
    for entry, i in zip(entries, given, strict=True):
        if kind == "images":
            entry["height"], entry["width"] = int(entry["height"]), int(entry["width"])
        entry["id"], entry["given"] = new[i] if new else i, i
    return sorted(entries, key=lambda entry: entry["id"]), new


def _name(category: Entry, json_file: str) -> str:
    name = category["name"]
    if isinstance(name, bool) or not isinstance(name, (str, int, float)) or not str(name).strip():
        raise UserError(f"{json_file}: category {category['given']}: name is {name!r}: want text")
    return str(name)


def _annotations(entries: list[Entry], others: tuple[list[Entry], list[Entry]], json_file: str) -> list[Entry]:
    """Put annotations into the shape of Coco, each in its place."""
    _refuse_duplicates(f"{json_file}: ids of annotations", [i for entry in entries if (i := _id(entry)) is not None])
    known: dict[str, dict[Any, Any]] = {
        kind: {entry["given"]: entry["id"] for entry in group} for kind, group in zip(ENTRIES, others, strict=False)
    }
    for kind, key in (("images", "image_id"), ("categories", "category_id")):
        if {entry[key] for entry in entries} <= known[kind].keys():  # 1.0 is 1 here, too
            continue
        lost = [(n, a) for n, a in enumerate(entries) if _whole(a[key]) not in known[kind]]
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
    if not _are_plain(entries):
        for number, entry in enumerate(entries):
            _check(entry, f"{json_file}: annotation {_given(entry, number)}")
    sizes = {image["id"]: (image["height"], image["width"]) for image in others[0]}
    poses = [entry["keypoints"] for entry in entries if isinstance(entry.get("keypoints"), list)]
    filled, points = 0, max(map(len, poses), default=0)
    for start in range(0, len(entries), BLOCK):
        block = entries[start : start + BLOCK]
        segmentations = [entry.pop("segmentation", None) for entry in block]
        plain = are_plain(segmentations)
        for number, (entry, segmentation) in enumerate(zip(block, segmentations, strict=True), start + 1):
            box, area, crowd = entry["bbox"], entry.get("area"), int(entry.get("iscrowd") or 0)
            if not (type(area) is float and 0 < area < math.inf):
                filled, area = filled + (area != (found := _area(area, box))), found
            image = known["images"][entry["image_id"]]
            given = _given(entry, number - 1)
            entry["id"], entry["given"], entry["image_id"] = number, given, image
            entry["category_id"] = known["categories"][entry["category_id"]]
            entry["iscrowd"], entry["area"] = crowd, area
            if points:
                entry |= _pose(entry, points)
            try:
                usual = plain and not isinstance(segmentation, dict)
                mask = segmentation or None if usual else readable(segmentation, *sizes[image])
            except UnreadableError as error:
                entry["unreadable"] = str(error)
                continue
            mask = box_as_mask(box) if mask is None and crowd else mask
            if mask is not None:
                entry["segmentation"] = mask
    if filled:
        logger.info(f"{json_file}: {filled} annotations have no area above 0: it is computed from their boxes")
    return entries


def _are_plain(entries: list[Entry]) -> bool:
    """Return whether, at a glance, all boxes, crowds and areas are as they should be."""
    boxes = [entry["bbox"] for entry in entries]
    if not (set(map(type, boxes)) <= {list} and set(map(len, boxes)) <= {4}):
        return False
    numbers = [entry.get("area") for entry in entries]
    if not set(map(type, chain(chain.from_iterable(boxes), numbers))) <= {int, float}:
        return False
    try:
        sides = np.fromiter(chain.from_iterable(boxes), np.float64, 4 * len(boxes))
        areas = np.array(numbers, np.float64)
        crowds = {entry.get("iscrowd") for entry in entries}
    except (TypeError, OverflowError):
        return False
    small = (np.abs(sides) < 2**53).all() and (np.abs(areas) < 2**53).all()
    return bool(small) and crowds <= {None, 0, 1}


def _check(entry: Entry, where: str) -> None:
    """Refuse an annotation whose box, crowd or area is none."""
    box, crowd, area = entry["bbox"], entry.get("iscrowd") or 0, entry.get("area")
    if not (isinstance(box, list) and len(box) == 4 and all(map(is_number, box))):
        raise UserError(f"{where}: bbox is {box!r}: want [x, y, w, h]")
    if crowd not in (0, 1):
        raise UserError(f"{where}: iscrowd is {crowd!r}: want 0 or 1")
    if crowd and not all(map(math.isfinite, box)):
        raise UserError(f"{where}: iscrowd is 1, but bbox is {box}: want numbers of pixels")
    if area is not None and not is_number(area):
        raise UserError(f"{where}: area is {area!r}: want a number of pixels")


def _area(area: float | None, box: list[float]) -> float:
    """Return the area as given, or the box's: a negative one would take the object out of the evaluation."""
    return area if area is not None and math.isfinite(area) and area > 0 else box[2] * box[3]


def _pose(entry: Entry, length: int) -> Entry:
    """Return what pycocotools asks of every object where one has keypoints; without a visible one they do not count."""
    given = entry.get("keypoints")
    keypoints = given if isinstance(given, list) and given else [0] * length
    visible = sum(bool(seen) for seen in keypoints[2::3])
    return {"keypoints": keypoints, "num_keypoints": entry.get("num_keypoints", visible)}


def _id(entry: Entry) -> Hashable:
    """Return the id of an annotation, or None."""
    value = entry.get("id")
    return value if type(value) in HASHABLE else str(value)


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


def _refuse_duplicates(what: str, values: list[Hashable]) -> None:
    if len(set(values)) == len(values):
        return
    duplicates = [value for value, count in Counter(values).items() if count > 1]
    raise UserError(f"{what} are given twice, first of {len(duplicates)}: {duplicates[0]!r}; make them unique")
