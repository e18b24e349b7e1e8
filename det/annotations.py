"""What can be wrong with annotations in COCO form, found before training."""

import json
import logging
import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import get_detection_dataset_dicts
from detectron2.data.build import filter_images_with_only_crowd_annotations
from detectron2.structures import BoxMode

from densedist.common.errors import UserError

logger = logging.getLogger(__name__)
Entry = dict[str, Any]
Coco = dict[str, list[Entry]]  # images, categories, annotations
FORM: dict[str, tuple[str, ...]] = {
    "images": ("id", "file_name", "height", "width"),
    "categories": ("id", "name"),
    "annotations": ("id", "image_id", "category_id", "bbox"),
}


def read_coco(json_file: str) -> Coco:
    """The images, categories and annotations of a file in COCO form.

    Raises:
        UserError: it cannot be read, is no JSON, or has no such entries.
    """
    try:
        with open(json_file, encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError) as error:
        raise UserError(f"{json_file} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{json_file} is no COCO JSON file: want an object with {', '.join(FORM)}")
    return {kind: _entries(content, kind, keys, json_file) for kind, keys in FORM.items()}


def _entries(content: Entry, kind: str, keys: tuple[str, ...], json_file: str) -> list[Entry]:
    # A test set has none.
    entries = content.get(kind, [] if kind == "annotations" else None)
    if not isinstance(entries, list):
        raise UserError(f"{json_file} is no COCO JSON file: want a list of {kind}")
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise UserError(f"{json_file}: number {number} of {kind} is {entry!r}, not an object")
        if missing := [key for key in keys if key not in entry]:
            raise UserError(f"{json_file}: number {number} of {kind} has no {missing[0]}")
        if not all(isinstance(entry[key], Hashable) for key in keys if key != "bbox"):
            raise UserError(f"{json_file}: number {number} of {kind} has a list or an object for {', '.join(keys)}")
        if "height" in keys and not all(type(entry[key]) is int and entry[key] > 0 for key in ("height", "width")):
            raise UserError(f"{json_file}: image {entry['id']}: height and width are not whole numbers above 0")
        if "file_name" in keys and not isinstance(entry["file_name"], str):
            raise UserError(f"{json_file}: image {entry['id']}: file_name is {entry['file_name']!r}: want text")
        if "bbox" in keys and not _is_box(entry["bbox"]):
            raise UserError(f"{json_file}: annotation {entry['id']}: bbox is {entry['bbox']!r}: want [x, y, w, h]")
    return entries


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(type(x) in (int, float) for x in value)


def check_references(coco: Coco, json_file: str) -> None:
    """Make sure that ids are unique and that annotations name images and categories that there are.

    Raises:
        UserError: naming the file, how many entries are wrong, and the first.
    """
    for kind, entries in coco.items():
        _refuse_twins(f"{json_file}: ids of {kind}", (entry["id"] for entry in entries))
    _refuse_twins(f"{json_file}: names of categories", (category["name"] for category in coco["categories"]))
    for kind, key in (("images", "image_id"), ("categories", "category_id")):
        known = {entry["id"] for entry in coco[kind]}
        if lost := [a for a in coco["annotations"] if a[key] not in known]:
            raise UserError(
                f"{json_file}: the {key} of {len(lost)} annotations is not among the {kind}, first annotation "
                f"{lost[0]['id']} with {lost[0][key]!r}: add it, or remove them"
            )
    if ignored := [a for a in coco["annotations"] if a.get("ignore")]:
        raise UserError(
            f'{json_file}: {len(ignored)} annotations have "ignore", first annotation {ignored[0]["id"]}, which '
            "Detectron2 refuses: set their iscrowd to 1 instead, or remove them"
        )


def _refuse_twins(what: str, values: Iterable[Hashable]) -> None:
    if twins := [value for value, count in Counter(values).items() if count > 1]:
        raise UserError(f"{what} are given twice, first of {len(twins)}: {twins[0]!r}; make them unique")


def bad_boxes(coco: Coco) -> list[Entry]:
    """The annotations whose box cannot be learned (see is_bad); those of crowds and of unknown images left out."""
    sizes = {image["id"]: (image["height"], image["width"]) for image in coco["images"]}
    candidates = (a for a in coco["annotations"] if not a.get("iscrowd") and a["image_id"] in sizes)
    return [a for a in candidates if is_bad(a["bbox"], *sizes[a["image_id"]])]


def is_bad(box: Sequence[float], height: int, width: int) -> bool:
    """Whether a box (x, y, w, h) is not finite, has no area, or none inside its image. It may stick out."""
    x, y, w, h = box
    inside = min(x + w, width) - max(x, 0) > 0 and min(y + h, height) - max(y, 0) > 0
    return not (all(map(math.isfinite, box)) and w > 0 and h > 0 and inside)


def drop_bad_boxes(dicts: Sequence[Entry]) -> list[Entry]:
    """Detectron2's dataset dicts without the annotations whose box is bad; images stay."""

    def keep(annotation: Entry, image: Entry) -> bool:
        box = BoxMode.convert(list(annotation["bbox"]), annotation["bbox_mode"], BoxMode.XYWH_ABS)
        return bool(annotation.get("iscrowd")) or not is_bad(box, image["height"], image["width"])

    kept = [d | {"annotations": [a for a in d["annotations"] if keep(a, d)]} for d in dicts]
    dropped = sum(len(d["annotations"]) for d in dicts) - sum(len(d["annotations"]) for d in kept)
    logger.info(f"DATASETS.DROP_BAD_BOXES: dropped {dropped} annotations")
    return kept


def labeled_dicts(cfg: CfgNode) -> list[dict] | None:
    """DATASETS.TRAIN without bad boxes where DATASETS.DROP_BAD_BOXES says so; None = as Detectron2 loads it."""
    if not cfg.DATASETS.DROP_BAD_BOXES:
        return None
    keypoints = cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE if cfg.MODEL.KEYPOINT_ON else 0
    proposals = cfg.DATASETS.PROPOSAL_FILES_TRAIN if cfg.MODEL.LOAD_PROPOSALS else None
    dicts = drop_bad_boxes(get_detection_dataset_dicts(cfg.DATASETS.TRAIN, False, keypoints, proposals))
    return filter_images_with_only_crowd_annotations(dicts) if cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS else dicts
