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
from densedist.common.labeling import RECORD, Calibration, Labeling, check_same_names, numbers_of_student, warn_of_bare
from densedist.common.logging import on_terminal
from densedist.common.shell import quoted
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
    the images as TEST.AUG of its config says.

    Raises:
        UserError: wrong weights, teachers of different classes or without one of the student's, a folder that has
            files, no objects to choose by.
    """
    lowest = LEAST if labeling.score is None else min(LEAST, labeling.score)
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
    least = _chosen(teachers) if labeling.score is None else np.full(len(written), labeling.score)
    warn_of_bare(written, least)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, file in enumerate(tqdm(labeling.images.values(), "labeling", disable=not on_terminal()), 1):
        found = _found(teachers, file)
        found.pred_classes = torch.as_tensor(numbers)[found.pred_classes]
        found = found[found.pred_classes >= 0]
        found = found[found.scores >= torch.as_tensor(least)[found.pred_classes]]
        height, width = found.image_size
        images.append({"id": number, "file_name": str(file.resolve()), "height": height, "width": width})
        annotations += [_annotation(box) for box in instances_to_coco_json(found, number)]
    annotations = [{"id": number} | annotation for number, annotation in enumerate(annotations, 1)]
    categories = [{"id": number, "name": name} for number, name in enumerate(written, 1)]
    content = {"images": images, "categories": categories, "annotations": annotations}
    write_text(labeling.output / ANNOTATIONS, json.dumps(content) + "\n")
    counts = np.bincount([a["category_id"] - 1 for a in annotations], minlength=len(written)).tolist()
    record = labeling.record(written, least.tolist(), time.perf_counter() - start, counts)
    write_text(labeling.output / RECORD, json.dumps(record, indent=1) + "\n")
    key = quoted(_words([], labeling.output))
    print(f"{len(annotations)} objects in {len(images)} images\nAdd to the command that trains a student: {key}")


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


def _found(teachers: Sequence[Trained], file: Path) -> Instances:
    seen = [predict(teacher.model, read_input(teacher.cfg, file)[0]) for teacher in teachers]
    return seen[0] if len(seen) == 1 else fuse(seen)


def _chosen(teachers: Sequence[Trained]) -> np.ndarray:
    """Choose for each class the score from which on F1 is best on DATASETS.TEST; boxes on crowds are no errors."""
    cfg = with_only(teachers[0].cfg, "TEST")
    calibration, any_truth = Calibration(len(teachers[0].classes)), False
    for sample in tqdm(test_samples(cfg, None), "choosing thresholds", disable=not on_terminal()):
        if sample.objects is None:
            continue
        found = _found(teachers, sample.file)
        right, _ = match(found, sample.objects)
        counted = right | ~on_crowds(found, sample.crowds)
        found, right = found[counted], right[counted]
        truth = sample.objects.gt_classes.numpy()
        any_truth |= len(truth) > 0
        calibration.add(found.pred_classes.numpy(), found.scores.numpy(), right.numpy(), truth)
    if not any_truth:
        raise UserError("--choose-thresholds: DATASETS.TEST has no objects to choose by: name data that has")
    return calibration.thresholds()


def _annotation(box: dict[str, Any]) -> dict[str, Any]:
    """Convert one of COCO's results, whose categories count from 0, to an annotation."""
    x, y, width, height = box["bbox"]
    mask = {"segmentation": box["segmentation"]} if "segmentation" in box else {}
    return {
        "image_id": box["image_id"],
        "category_id": box["category_id"] + 1,
        "bbox": [x, y, width, height],
        "area": width * height,
        "iscrowd": 0,
        "score": box["score"],
    } | mask
