"""Detectron2's dataset dicts, by whomever they are made, checked and in COCO's format."""

import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from numbers import Integral
from typing import Any

import numpy as np
from detectron2.structures import BoxMode

from densedist.common.data.packed import Mapped
from densedist.common.errors import UserError, one_line
from densedist.det.data.coco import Coco, Columns, Entry
from densedist.det.data.loaded import Loaded
from densedist.det.data.masks import UnreadableError, readable
from densedist.det.data.registering import dataset_dicts

WANTED = "want Detectron2's dataset dicts"


def read_dicts(name: str, classes: Sequence[str], source: str, side: str, with_masks: bool) -> tuple[Coco, bool]:
    """Read images and annotations of a registered data set, and say whether all of its boxes can be judged.

    Rotated boxes cannot, and are left out.

    Args:
        classes: the names of the model's classes, which category_id counts from 0.
        source: for messages.
        side: of DATASETS; annotations of UNLABELED are not looked at, and images of TEST need an image_id.
        with_masks: whether segmentations are looked at.

    Raises:
        UserError: what cannot be loaded, lacks a key, or has a value that Detectron2 does not take.
    """
    dicts = _load(name, source)
    bare = dicts.bare if isinstance(dicts, Loaded) else dicts
    images = [_image(d, f"{source}: dict number {number}", number) for number, d in enumerate(bare)]
    if side == "TEST":
        _check_image_ids(bare, source)
    looked_at = dicts if side != "UNLABELED" else [{}] * len(images)
    of_images = Mapped(partial(_entries, source, with_masks), looked_at, images)
    rotated: list[Entry] = []

    def upright() -> Iterator[tuple[int, Entry]]:
        for number, annotations in enumerate(of_images):
            yield from ((number, a) for a in annotations if a["bbox"])
            rotated.extend(a for a in annotations if not a["bbox"])

    columns = dicts.columns if isinstance(dicts, Loaded) and side != "UNLABELED" else None
    columns = columns or Columns.of(upright())
    kinds = [kind for kind, crowd in zip(columns.categories, columns.crowds.tolist(), strict=True) if not crowd]
    kinds += [a["category_id"] for a in rotated if not a["iscrowd"]]
    _check_categories(kinds, of_images, len(classes), source)
    categories = [{"id": number, "name": class_name} for number, class_name in enumerate(classes)]
    labeled = any("annotations" in d for d in dicts)
    known = Mapped(_with_box, of_images) if rotated else of_images
    return Coco(name, images, categories, known, columns, labeled, numbered=False), not rotated


def _load(name: str, source: str) -> Loaded | list[dict]:
    try:
        dicts = dataset_dicts(name)
        if isinstance(dicts, Loaded):
            return dicts
        dicts = list(dicts)
    except UserError:
        raise
    except Exception as error:  # it is the user's function
        raise UserError(f"{source} cannot be loaded: {one_line(error)}") from error
    if strange := [d for d in dicts if not isinstance(d, dict)]:
        raise UserError(f"{source} holds {type(strange[0]).__name__}: {WANTED}")
    return dicts


def _image(d: dict, where: str, number: int) -> Entry:
    for key in ("file_name", "height", "width"):
        if key not in d:
            raise UserError(f"{where} has no {key}: {WANTED}, with file_name, height and width of each image")
    if not isinstance(d["file_name"], (str, os.PathLike)):
        raise UserError(f"{where}: file_name is {d['file_name']!r}: want text")
    if not all(isinstance(d[key], Integral) and d[key] > 0 for key in ("height", "width")):
        raise UserError(f"{where}: height and width are {d['height']!r} and {d['width']!r}: want whole numbers above 0")
    return {"id": number, "file_name": str(d["file_name"]), "height": int(d["height"]), "width": int(d["width"])}


def _check_image_ids(dicts: Sequence[dict], source: str) -> None:
    """Refuse image ids that are not unique: detections are scored on the image of their image_id."""
    ids = [d.get("image_id") for d in dicts]
    if strange := [i for i in ids if type(i) not in (int, str)]:
        raise UserError(f"{source}: image_id of an image is {strange[0]!r}: want a whole number or text")
    if twins := [i for i, count in Counter(ids).items() if count > 1]:
        raise UserError(f"{source}: the image_id {twins[0]!r} is given to several images: make them unique")


def _entries(source: str, with_masks: bool, d: dict, image: Entry) -> list[Entry]:
    """Return the annotations of a dict as Coco has them; a rotated box is empty."""
    given, found = f"of image {image['file_name']}", []
    for a in _annotations(d, f"{source}: image {image['file_name']}"):
        box = _plain_box(a) or _box(a, f"{source}: an annotation {given}")
        about = a | {"iscrowd": int(bool(a.get("iscrowd"))), "image_id": image["id"], "given": given, "bbox": box}
        found.append(about | _mask(a, image) if with_masks else about)
    return found


def _with_box(annotations: Sequence[Entry]) -> list[Entry]:
    return [annotation for annotation in annotations if annotation["bbox"]]


def _annotations(d: dict, where: str) -> Sequence[dict]:
    annotations = d.get("annotations", [])
    if not isinstance(annotations, (list, tuple)) or not all(isinstance(a, dict) for a in annotations):
        raise UserError(f"{where}: its annotations are not a list of dicts: {WANTED}")
    return annotations


def _plain_box(annotation: Entry) -> list[float] | None:
    """Return the box as Detectron2 loads it from a file in COCO format; None for any other one."""
    box: Any = annotation.get("bbox")
    usual = type(box) is list and len(box) == 4 and annotation.get("bbox_mode") is BoxMode.XYWH_ABS
    if not usual or "category_id" not in annotation:
        return None
    if (types := set(map(type, box))) == {float}:
        return box
    try:
        return [float(value) for value in box] if types <= {int, float} else None
    except OverflowError:
        return None


def _box(annotation: dict, where: str) -> list[float]:
    """Return [x, y, w, h] in pixels; nothing where the box is rotated."""
    for key in ("bbox", "bbox_mode", "category_id"):
        if key not in annotation:
            raise UserError(f"{where} has no {key}: {WANTED}, with bbox, bbox_mode and category_id of each object")
    try:
        box = [float(value) for value in annotation["bbox"]]
        mode = BoxMode(annotation["bbox_mode"])
    except (TypeError, ValueError) as error:
        said = f"bbox is {annotation['bbox']!r}, bbox_mode {annotation['bbox_mode']!r}"
        raise UserError(f"{where}: {said}: want [x, y, w, h] and BoxMode.XYWH_ABS, or corners and XYXY_ABS") from error
    if mode in (BoxMode.XYXY_REL, BoxMode.XYWH_REL):
        raise UserError(f"{where}: bbox_mode is {mode.name}, which Detectron2 does not read: want boxes in pixels")
    if len(box) != (5 if mode == BoxMode.XYWHA_ABS else 4):
        raise UserError(f"{where}: bbox is {annotation['bbox']!r}, of another length than {mode.name} has")
    if mode == BoxMode.XYWHA_ABS:
        return []
    x, y, w, h = box  # or the other corner; BoxMode.convert takes twenty times as long
    return [x, y, w - x, h - y] if mode == BoxMode.XYXY_ABS else box


def _mask(annotation: dict, image: Entry) -> Entry:
    """Return the segmentation as Coco has it, or why it is none."""
    given = annotation.get("segmentation")
    try:
        if isinstance(given, np.ndarray):
            raise UnreadableError("is an array: want polygons, or run lengths as pycocotools encodes them")
        if isinstance(given, dict) and isinstance(given.get("counts"), list):
            raise UnreadableError("has run lengths that are not compressed: want those of pycocotools' frPyObjects")
        listed: Any = given
        if isinstance(given, (list, tuple)):
            listed = [np.asarray(polygon).ravel().tolist() for polygon in given]
        mask = readable(listed, image["height"], image["width"])
        if isinstance(listed, list) and len(mask or []) < len(listed):
            raise UnreadableError("has a polygon that has not three points")
    except UnreadableError as error:
        return {"segmentation": None, "unreadable": str(error)}
    return {"segmentation": mask}


def _check_categories(kinds: Sequence[Any], annotations: Iterable[Sequence[Entry]], count: int, source: str) -> None:
    """Refuse objects of no class.

    Args:
        kinds: the category_id of each.
        annotations: of each image, for the message.
        count: of classes.
    """
    try:
        if all(_is_class(kind, count) for kind in set(kinds)):
            return
    except TypeError:  # a list
        pass
    objects = (a for of_image in annotations for a in of_image if not a["iscrowd"])
    if wrong := [a for a in objects if not _is_class(a["category_id"], count)]:
        raise UserError(
            f"{source}: the category_id of {len(wrong)} annotations is none of the {count} classes, first "
            f"{wrong[0]['category_id']!r} {wrong[0]['given']}: count them from 0 to {count - 1}"
        )


def _is_class(value: Any, count: int) -> bool:
    is_number = isinstance(value, (Integral, float, np.floating)) and math.isfinite(value)
    return is_number and value == int(value) and 0 <= value < count
