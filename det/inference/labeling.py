"""Labels that detectors write for any images: a COCO data set that a student trains on as on any other."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.structures import Instances
from tqdm import tqdm

from densedist.common.errors import UserError
from densedist.common.files import write_text
from densedist.common.labeling import (
    FREQUENCIES,
    RECORD,
    Calibration,
    Labeling,
    check_same_names,
    numbers_of_student,
    option_of,
    read_way,
    warn_of_bare,
)
from densedist.common.logging import on_terminal
from densedist.common.shell import quoted
from densedist.det.architectures import class_count
from densedist.det.data.reading import read_input
from densedist.det.data.registering import ANNOTATIONS
from densedist.det.datasets import class_labels, with_only
from densedist.det.drawing import match, on_crowds
from densedist.det.inference.predict import predict
from densedist.det.inference.samples import test_samples
from densedist.det.modeling.augmented import augmented
from densedist.det.modeling.fusion import fuse
from densedist.det.models import Trained, load_trained

LEAST = 0.05  # of a box that one of several teachers gives, or that a threshold is chosen among


def label_images(labeling: Labeling) -> None:
    """Write annotations.json, in COCO format with the images where they lie, and what is known of it.

    Of one teacher masks are written too, as RLE (INPUT.MASK_FORMAT bitmask); boxes of several are fused. Each looks at
    the images as TEST.AUG of its config says. Boxes of a score between labeling.ignore and the one of their class are
    crowds.

    Raises:
        UserError: wrong weights, teachers of different classes or without one of the student's, a folder that has
            files, no objects to choose by.
    """
    lowest = min([LEAST, *(score for score in (labeling.score, labeling.ignore) if score is not None)])
    words = [word for head in ("ROI_HEADS", "RETINANET") for word in (f"MODEL.{head}.SCORE_THRESH_TEST", str(lowest))]
    loaded = [load_trained(replace(weights, overrides=[*words, *weights.overrides])) for weights in labeling.teachers]
    teachers = [replace(teacher, model=augmented(teacher.cfg, teacher.model)) for teacher in loaded]
    names = teachers[0].classes
    check_same_names([teacher.classes for teacher in teachers])
    written = names if labeling.student is None else class_labels(labeling.student)
    numbers = numbers_of_student(labeling, written, names)
    if labeling.only_check:
        return
    labeling.begin()
    start = time.perf_counter()
    classes = len(written)
    if labeling.score is not None:
        least = np.full(classes, labeling.score)
    elif labeling.choose == FREQUENCIES:
        least = np.full(classes, lowest)  # until all predictions are known
    else:
        least = _chosen(teachers, numbers, classes, labeling.choose)
    kept_from = np.minimum(least, np.inf if labeling.ignore is None else labeling.ignore)
    images: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    for number, file in enumerate(tqdm(labeling.images.values(), "labeling", disable=not on_terminal()), 1):
        found = _found(teachers, file, numbers)
        found = found[found.scores >= torch.as_tensor(kept_from)[found.pred_classes]]
        height, width = found.image_size
        images.append({"id": number, "file_name": str(file.resolve()), "height": height, "width": width})
        boxes += instances_to_coco_json(found, number)
    if labeling.score is None and labeling.choose == FREQUENCIES:
        least = _as_frequent(boxes, len(images), teachers[0].cfg if labeling.student is None else labeling.student)
    if labeling.score is None:
        warn_of_bare(written, least, labeling.choose)
    known = [_annotation(box, least[box["category_id"]], labeling.ignore) for box in boxes]
    annotations = [{"id": number} | one for number, one in enumerate(filter(None, known), 1)]
    categories = [{"id": number, "name": name} for number, name in enumerate(written, 1)]
    content = {"images": images, "categories": categories, "annotations": annotations}
    write_text(labeling.output / ANNOTATIONS, json.dumps(content) + "\n")
    objects = [a["category_id"] - 1 for a in annotations if not a["iscrowd"]]
    counts = np.bincount(objects, minlength=classes).tolist()
    record = labeling.record(written, least.tolist(), time.perf_counter() - start, counts)
    write_text(labeling.output / RECORD, json.dumps(record, indent=1) + "\n")
    ignored = f", {len(annotations) - len(objects)} boxes to ignore" if labeling.ignore is not None else ""
    key = quoted(_words([], labeling.output))
    print(f"{len(objects)} objects{ignored} in {len(images)} images\nAdd to the command that trains a student: {key}")


def with_labels(cfg: CfgNode, folder: Path) -> list[str]:
    """Return the overrides that train cfg on the labels in a folder, too."""
    return _words(cfg.DATASETS.PSEUDO_LABELED, folder)


def _words(others: Sequence[str], folder: Path) -> list[str]:
    return ["DATASETS.PSEUDO_LABELED", str([*others, str(folder)])]


def unlabeled_images(cfg: CfgNode) -> Mapping[str, Path]:
    """List the images of DATASETS.UNLABELED by name.

    Raises:
        UserError: a data set that is not there.
    """
    names = with_only(cfg, "UNLABELED").DATASETS.UNLABELED
    files = [entry["file_name"] for name in names for entry in DatasetCatalog.get(name)]
    return {file: Path(file) for file in files}


def _found(teachers: Sequence[Trained], file: Path, numbers: np.ndarray) -> Instances:
    """Return what the teachers see in an image, with the numbers that their classes have in labels.

    Args:
        numbers: for each of the teachers' classes, below 0 where labels do not have it.
    """
    seen = [predict(teacher.model, read_input(teacher.cfg, file)[0]) for teacher in teachers]
    found = seen[0] if len(seen) == 1 else fuse(seen)
    found.pred_classes = torch.as_tensor(numbers)[found.pred_classes]
    return found[found.pred_classes >= 0]


def _chosen(teachers: Sequence[Trained], numbers: np.ndarray, count: int, way: str) -> np.ndarray:
    """Choose for each class of the labels the score from which on F1 on DATASETS.TEST is best, or a precision is
    reached; boxes on crowds are no errors.

    Args:
        numbers: see _found.
        count: of the labels' classes.
    """
    cfg = with_only(teachers[0].cfg, "TEST")
    calibration, any_truth = Calibration(count), False
    for sample in tqdm(test_samples(cfg, None), "choosing thresholds", disable=not on_terminal()):
        if sample.objects is None:
            continue
        found, objects = _found(teachers, sample.file, numbers), _renumbered(sample.objects, numbers)
        right, _ = match(found, objects)
        crowds = None if sample.crowds is None else _renumbered(sample.crowds, numbers)
        counted = right | ~on_crowds(found, crowds)
        found, right = found[counted], right[counted]
        truth = objects.gt_classes.numpy()
        any_truth |= len(truth) > 0
        calibration.add(found.pred_classes.numpy(), found.scores.numpy(), right.numpy(), truth)
    if not any_truth:
        raise UserError(f"{option_of(way)}: DATASETS.TEST has no objects to choose by: name data that has")
    return calibration.thresholds(read_way(way))


def _renumbered(objects: Instances, numbers: np.ndarray) -> Instances:
    classes = torch.as_tensor(numbers)[objects.gt_classes]
    known = objects[classes >= 0]
    known.gt_classes = classes[classes >= 0]
    return known


def _as_frequent(boxes: Sequence[Mapping[str, Any]], images: int, cfg: CfgNode) -> np.ndarray:
    """Choose for each class the score from which on an image has as many boxes as objects in DATASETS.TRAIN.

    Args:
        boxes: of so many images, as instances_to_coco_json gives them.
        cfg: whose DATASETS.TRAIN has the classes of the labels.

    Raises:
        UserError: DATASETS.TRAIN has no objects.
    """
    dicts = [d for name in with_only(cfg, "TRAIN").DATASETS.TRAIN for d in DatasetCatalog.get(name)]
    truth = [a["category_id"] for d in dicts for a in d.get("annotations", []) if not a.get("iscrowd")]
    if not truth:
        raise UserError("--choose-by frequencies: DATASETS.TRAIN has no objects to count: name data that has")
    objects = np.bincount(truth, minlength=class_count(cfg))
    classes, scores = (np.array([box[key] for box in boxes]) for key in ("category_id", "score"))
    calibration = Calibration(len(objects))
    calibration.add(classes, scores, np.zeros(len(boxes), bool), np.zeros(0))
    return calibration.thresholds_of_counts(objects * images / len(dicts))


def _annotation(box: dict[str, Any], least: float, ignored_from: float | None) -> dict[str, Any] | None:
    """Convert one of COCO's results, whose categories count from 0, to an annotation: an object from a score on, a
    crowd from a lower one on; else None."""
    if (is_crowd := box["score"] < least) and (ignored_from is None or box["score"] < ignored_from):
        return None
    x, y, width, height = box["bbox"]
    mask = {"segmentation": box["segmentation"]} if "segmentation" in box else {}
    return {
        "image_id": box["image_id"],
        "category_id": box["category_id"] + 1,
        "bbox": [x, y, width, height],
        "area": width * height,
        "iscrowd": int(is_crowd),
        "score": box["score"],
    } | mask
