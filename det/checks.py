"""A look at the data of a config before training: whether it is sound, what it holds, and how it looks."""

import logging
import math
import os
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import Metadata, MetadataCatalog

from densedist.common.data.confidence import Confidence
from densedist.common.data.flip_pairs import warn_of_sides
from densedist.common.data.headers import Header
from densedist.common.data.images import check_image, check_images, warn_of_transparency
from densedist.common.data.sides import LABELED, SIDES
from densedist.common.data.survey import Survey
from densedist.common.errors import UserError, on_main_process
from densedist.common.report.panels import Panel, draw_in_lines
from densedist.det.architectures import distilling_classes
from densedist.det.data import registering
from densedist.det.data.boxes import bad_boxes, other_form
from densedist.det.data.classes import class_mirrors, class_names, known_classes
from densedist.det.data.coco import Coco, Entry, image_file
from densedist.det.data.coco_file import is_number
from densedist.det.data.dicts import read_dicts
from densedist.det.data.masks import are_damaged, not_of_boxes
from densedist.det.data.reading import read_input
from densedist.det.data.samplers import check_sampler
from densedist.det.data.teacher_labels import VARIANCE
from densedist.det.datasets import class_labels
from densedist.det.drawing import draw_marks, labeled
from densedist.det.evaluation import check_rules
from densedist.det.inference.samples import spread_samples

logger = logging.getLogger(__name__)
WITHOUT_MASKS = "or set MODEL.MASK_ON to False"
COCO_KEYPOINTS = 17
# Of fields of annotations that a teacher wrote: the most that they may be, the values in words, how they are written.
FIELDS = {"score": (1.0, "from 0 to 1", ""), VARIANCE: (math.inf, "of 0 or more", " (--box-variance)")}


def check_data(cfg: CfgNode, *sides: str) -> None:
    """Make sure that annotations and files of all sides of DATASETS, or of the given ones, are sound.

    Of the data sets that Detectron2 registers itself the annotations are only counted: a few boxes of COCO have no
    area, and Detectron2 leaves them out. A class without an object is a warning.

    Raises:
        UserError: what is wrong first; DATASETS.DROP_BAD_BOXES lets bad boxes pass, DATALOADER.CHECK_FILES False
            damaged files.
    """
    on_main_process(lambda: _check(cfg, sides or SIDES))


def survey(cfg: CfgNode, side: str) -> Survey:
    """Count the images, their sizes and their objects on a side of DATASETS; crowds are no objects."""
    sizes: Counter[tuple[int, int]] = Counter()
    counts: Counter[int] = Counter()
    images = 0  # with annotations
    for name in cfg.DATASETS[side]:
        for entry in registering.dataset_dicts(name):
            sizes[entry["height"], entry["width"]] += 1
            objects = [a["category_id"] for a in entry.get("annotations", []) if not a.get("iscrowd")]
            images += "annotations" in entry and bool(MetadataCatalog.get(name).get("thing_classes"))
            counts.update(objects)
    return Survey(side, sizes, images, {name: counts[n] for n, name in enumerate(class_labels(cfg))}, "objects")


def draw_data(cfg: CfgNode, side: str, count: int, file: Path) -> None:
    """Draw so many images, spread evenly over a side of DATASETS, with their objects to a PNG."""
    names = class_labels(cfg)
    columns = []
    for sample in spread_samples(cfg, count, side):
        marks = [] if sample.objects is None else [labeled(sample.objects, names)]
        columns.append([Panel(read_input(cfg, sample.file)[1], sample.name, over=partial(draw_marks, marks))])
    draw_in_lines(columns, [], f"DATASETS.{side}", file)


def _check(cfg: CfgNode, sides: Sequence[str]) -> None:
    class_mirrors(cfg)
    if any(cfg.DATASETS[side] for side in LABELED if side in sides) and cfg.INPUT.RANDOM_FLIP == "horizontal":
        warn_of_sides(cfg.INPUT.FLIP_PAIRS, known_classes(cfg) or [], "INPUT.RANDOM_FLIP", "none")
    for side in sides:
        if side == "TEST":
            check_rules(cfg)
        if side in LABELED and cfg.DATASETS[side]:
            check_sampler(cfg)
        counts: Counter[str] = Counter()
        names: list[str] = []
        for name in cfg.DATASETS[side]:
            source = f"DATASETS.{side}: data set {name}"
            root, coco = MetadataCatalog.get(name).get("image_root") or "", registering.ground_truth(name)
            judged = True
            if coco is None:
                classes = class_names(name) or class_labels(cfg)
                with_masks = cfg.MODEL.MASK_ON and name not in registering.BUILT_IN
                root, (coco, judged) = "", read_dicts(name, classes, source, side, with_masks)
            if not coco.images:
                raise UserError(f"{source} is empty: {coco.source} names no image")
            _check_listings(coco, source, name)
            if side in LABELED and not coco.has_labels:
                raise UserError(f"{source}: {coco.source} has no annotations: name it in DATASETS.UNLABELED")
            if side != "UNLABELED" and coco.has_labels and judged:  # what is left is Detectron2's
                _check_labels(cfg, coco, side, name)
                known = {category["id"]: category["name"] for category in coco.categories}
                kinds, crowds = coco.columns.categories, coco.columns.crowds.tolist()
                counts.update(known.get(kind, "") for kind, crowd in zip(kinds, crowds, strict=True) if not crowd)
                names = names or coco.names
            if side == "PSEUDO_LABELED":
                _check_kept_scores(cfg, name, source)
            if cfg.DATALOADER.CHECK_FILES:
                # Detectron2 takes names as they are.
                place = image_file if MetadataCatalog.get(name).get("normalized") else os.path.join
                images = [i | {"file_name": place(root, i["file_name"])} for i in coco.images]
                headers = check_images(
                    images, _check_image, source, _files, str([(i["height"], i["width"]) for i in images])
                )
                files = [image["file_name"] for image in images]
                warn_of_transparency(dict(zip(files, headers, strict=True)), source)
        if bare := [name for name in names if not counts[name]]:
            logger.warning(f"DATASETS.{side}: no object of {', '.join(bare)}")


def _check_listings(coco: Coco, source: str, name: str) -> None:
    """Refuse images that a data set of a script lists more than once: Detectron2 takes each listing for an image."""
    if coco.duplicates and not MetadataCatalog.get(name).get("normalized"):
        raise UserError(
            f"{source}: {coco.source} lists {coco.duplicates} images more than once, so that the objects of "
            "one listing are background in another: name it in DATASETS.COCO_FORMAT, where they are joined"
        )


def _check_labels(cfg: CfgNode, coco: Coco, side: str, name: str) -> None:
    source, built_in = f"DATASETS.{side}: data set {name}", name in registering.BUILT_IN
    if not built_in and (why := other_form(coco)):
        raise UserError(f"{source}: the boxes of {coco.source} are not [x, y, w, h] in pixels: {why}")
    if len(bad := bad_boxes(coco)):
        first = coco.annotations[bad[0]]
        message = (
            f"{source}: {len(bad)} boxes of {coco.source} are not finite, of no area or outside of their image, first "
            f"annotation {first['given']} with {first['bbox']}"
        )
        if not built_in and not cfg.DATASETS.DROP_BAD_BOXES:
            raise UserError(f"{message}; correct them, or set DATASETS.DROP_BAD_BOXES to True to train without them")
        logger.warning(message)
    if side in LABELED and coco.object_count == len(bad):
        remedy = "add annotations of objects (iscrowd 0)"
        if side == "PSEUDO_LABELED":
            remedy = "let the teacher write those of lower scores, too (--score-threshold)"
        raise UserError(f"{source}: {coco.source} has nothing to learn from: {remedy}")
    if cfg.MODEL.MASK_ON:
        _check_masks(cfg, coco, side, source, built_in)
    if side == "PSEUDO_LABELED":
        _check_scores(cfg, coco, source)
    counted = MetadataCatalog.get(name).get("class_image_count")
    if side in LABELED and cfg.MODEL.ROI_BOX_HEAD.USE_FED_LOSS and not counted:
        raise UserError(
            f"{source}: MODEL.ROI_BOX_HEAD.USE_FED_LOSS needs to know how many images each class is in: set it to "
            "False, or register the data set in a file of IMPORTS, with class_image_count in its metadata"
        )
    if cfg.MODEL.KEYPOINT_ON:
        _check_keypoints(cfg, coco, source, MetadataCatalog.get(name))


def _asked(cfg: CfgNode) -> dict[str, str]:
    """Return the fields of annotations that PSEUDO_LABELS asks for, each with the key that does and its value."""
    confidence, most = Confidence.of(cfg), cfg.PSEUDO_LABELS.MAX_BOX_VARIANCE
    asked = {"score": confidence.asked} if confidence.needs_scores else {}
    return asked | ({VARIANCE: f"PSEUDO_LABELS.MAX_BOX_VARIANCE is {most:g}"} if most else {})


def _check_scores(cfg: CfgNode, coco: Coco, source: str) -> None:
    """Refuse labels without the scores that PSEUDO_LABELS asks for, and boxes to ignore that would be background."""
    least = cfg.PSEUDO_LABELS.MIN_SCORE
    for field, asked in _asked(cfg).items():
        most, words, how = FIELDS[field]
        objects = (a for a in coco.each() if not a["iscrowd"])
        if bare := coco.in_order(a for a in objects if not (is_number(a.get(field)) and 0 <= a[field] <= most)):
            raise UserError(
                f"{source}: {asked}, but {len(bare)} annotations of {coco.source} have no {field} {words}, first "
                f"annotation {bare[0]['given']}: let the teacher write the labels again{how}, or set it to its default"
            )
    if least and all(a["score"] < least for a in coco.each() if not a["iscrowd"]):
        raise UserError(f"{source}: PSEUDO_LABELS.MIN_SCORE is {least:g}, and no box has that score: lower it")
    architecture, known = cfg.MODEL.META_ARCHITECTURE, distilling_classes()
    if coco.columns.crowds.any() and architecture not in known:
        raise UserError(
            f"{source}: {coco.source} has crowds, which would be background to "
            f"MODEL.META_ARCHITECTURE {architecture}: set it to {' or '.join(known)}"
        )


def _check_kept_scores(cfg: CfgNode, name: str, source: str) -> None:
    """Refuse a data set whose file may have scores, but not what is trained on: load_coco_json leaves them out."""
    for field, asked in _asked(cfg).items():
        annotations = (a for d in registering.dataset_dicts(name) for a in d.get("annotations", []))
        if any(field not in a for a in annotations if not a.get("iscrowd")):
            raise UserError(
                f"{source}: {asked}, but as it is registered its annotations have no {field}: name it in "
                f"DATASETS.COCO_FORMAT, or register annotations with a {field}"
            )


def _check_masks(cfg: CfgNode, coco: Coco, side: str, source: str, built_in: bool) -> None:
    annotations = coco.each() if built_in else map(_with_whole_mask, coco.each())
    if strange := coco.in_order(a for a in annotations if "unreadable" in a):
        raise UserError(
            f"{source}: the segmentation of {len(strange)} annotations of {coco.source} cannot be read, first "
            f"annotation {strange[0]['given']}, which {strange[0]['unreadable']}; correct them, {WITHOUT_MASKS}"
        )
    if bare := coco.in_order(a for a in coco.each() if not (a["iscrowd"] or a.get("segmentation"))):
        raise UserError(
            f"{source}: {len(bare)} annotations of {coco.source} have no segmentation, first annotation "
            f"{bare[0]['given']}; add them, {WITHOUT_MASKS}"
        )
    if not built_in and (why := not_of_boxes(a for a in coco.each() if not a["iscrowd"])):
        raise UserError(f"{source}: the polygons of {coco.source} are not those of its boxes: {why}")
    if side not in LABELED or cfg.INPUT.MASK_FORMAT != "polygon":
        return
    objects = (a for a in coco.each() if not a["iscrowd"])
    if lengths := coco.in_order(a for a in objects if isinstance(a["segmentation"], dict)):
        raise UserError(
            f"{source}: INPUT.MASK_FORMAT is polygon, but {len(lengths)} annotations of {coco.source} have run lengths "
            f"(RLE), first annotation {lengths[0]['given']}: set it to bitmask, {WITHOUT_MASKS}"
        )


def _with_whole_mask(annotation: Entry) -> Entry:
    lengths = annotation.get("segmentation")
    damaged = isinstance(lengths, dict) and are_damaged(lengths)
    return annotation | {"unreadable": "has damaged run lengths"} if damaged else annotation


def _check_keypoints(cfg: CfgNode, coco: Coco, source: str, meta: Metadata) -> None:
    without = "set MODEL.KEYPOINT_ON to False"
    if not (meta.get("keypoint_names") and meta.get("keypoint_flip_map") is not None):
        raise UserError(
            f"{source}: MODEL.KEYPOINT_ON is True, but its keypoints have no names: {without}, or register it in a "
            "file of IMPORTS, with keypoint_names and keypoint_flip_map in its metadata"
        )
    count = cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS
    if not any(a.get("keypoints") for a in coco.objects):
        raise UserError(f"{source}: no annotation of {coco.source} has keypoints: {without}")
    given = len(cfg.TEST.KEYPOINT_OKS_SIGMAS)
    if cfg.DATASETS.TEST and (given or COCO_KEYPOINTS) != count:
        raise UserError(
            f"{source}: MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS is {count}, but TEST.KEYPOINT_OKS_SIGMAS has {given} "
            f"numbers (0 stands for COCO's {COCO_KEYPOINTS}): give it one for each keypoint"
        )
    wrong = [a for a in coco.objects if a.get("keypoints") and len(a["keypoints"]) != 3 * count]
    if wrong or len(meta.keypoint_names) != count:
        seen = len(wrong[0]["keypoints"]) / 3 if wrong else len(meta.keypoint_names)
        raise UserError(f"{source}: MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS is {count}, but it has {seen:g} keypoints")


def _files(image: dict[str, Any]) -> list[str]:
    return [image["file_name"]]


def _check_image(image: dict[str, Any]) -> Header:
    return check_image(image["file_name"], (image["height"], image["width"]), "in the annotations")
