"""Labels that detectors write for any images: a COCO data set that a student trains on as on any other."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.structures import Instances
from tqdm import tqdm

from densedist.common.data.images import check_image, decode
from densedist.common.data.loader import reading_processes
from densedist.common.errors import UserError
from densedist.common.files import write_atomic, write_text
from densedist.common.labeling import (
    FREQUENCIES,
    RECORD,
    Calibration,
    Labeling,
    about_classes,
    asked_of,
    check_same_names,
    numbers_of_student,
    option_of,
    read_way,
    warn_of_bare,
)
from densedist.common.labels.loading import Item
from densedist.common.labels.precision import in_teachers_precision
from densedist.common.labels.shards import Shards, begin, kept
from densedist.common.labels.sheet import write_sheet
from densedist.common.labels.work import all_unreadable, fill_shards, in_words
from densedist.common.logging import on_terminal
from densedist.det.architectures import class_count
from densedist.det.config import DETECTRON2
from densedist.det.data.reading import read_input
from densedist.det.data.registering import ANNOTATIONS
from densedist.det.data.teacher_labels import VARIANCE
from densedist.det.datasets import class_labels, with_only
from densedist.det.drawing import match, on_crowds
from densedist.det.inference.jitter import box_variances, check_jitter
from densedist.det.inference.labels_file import Written, write_coco
from densedist.det.inference.labels_sheet import sheet
from densedist.det.inference.predict import predict_batch
from densedist.det.inference.samples import test_samples
from densedist.det.modeling.augmented import augmented
from densedist.det.modeling.fusion import fuse
from densedist.det.models import Trained, load_trained

LEAST = 0.05  # of a box that one of several teachers gives, or that a threshold is chosen among


def label_images(labeling: Labeling) -> None:
    """Write annotations.json, in COCO format with the images where they lie, and what is known of it.

    Of one teacher masks are written too, as RLE (INPUT.MASK_FORMAT bitmask); boxes of several are fused. Each looks at
    the images as TEST.AUG of its config says. Boxes of a score between labeling.ignore and the one of their class are
    crowds. With labeling.box_variance each has it as VARIANCE, of several teachers the mean.

    All processes of a group share the work; their output is the same, whatever their number.

    Raises:
        UserError: wrong weights, teachers of different classes or without one of the student's, a folder that has
            files, no objects to choose by, too many images that cannot be read, a teacher that cannot jitter boxes.
    """
    lowest = min([LEAST, *(score for score in (labeling.score, labeling.ignore) if score is not None)])
    words = [word for head in ("ROI_HEADS", "RETINANET") for word in (f"MODEL.{head}.SCORE_THRESH_TEST", str(lowest))]
    ours = () if labeling.student is None else class_labels(labeling.student)
    asked = asked_of(labeling.student, ours)
    loaded = [
        load_trained(replace(weights, overrides=[*words, *weights.overrides]), asked) for weights in labeling.teachers
    ]
    teachers = [replace(teacher, model=augmented(teacher.cfg, teacher.model)) for teacher in loaded]
    names = teachers[0].classes
    check_same_names([teacher.classes for teacher in teachers])
    written = ours or names
    numbers = numbers_of_student(labeling, written, names)
    jitter = [teacher.model for teacher in loaded] if labeling.box_variance else []
    for model in jitter:
        check_jitter(model)
    if labeling.only_check:
        return
    classes = len(written)

    def choose() -> np.ndarray:
        if labeling.score is not None:
            return np.full(classes, labeling.score)
        if labeling.choose == FREQUENCIES:
            return np.full(classes, lowest)  # until all predictions are known
        return _chosen(teachers, numbers, classes, labeling)

    cfg = teachers[0].cfg if labeling.student is None else labeling.student
    workers = reading_processes(teachers[0].cfg)
    with in_teachers_precision(cfg):
        shards = begin(labeling, choose)
        kept_from = np.minimum(shards.least, np.inf if labeling.ignore is None else labeling.ignore)
        read = partial(_read, [teacher.cfg for teacher in teachers])
        see = partial(_see, teachers, jitter, numbers, kept_from)
        is_main = fill_shards(shards, labeling, list(labeling.images), read, see, workers)
    if is_main:
        _join(shards, labeling, written, about_classes(written, names, numbers), cfg)


def _join(shards: Shards, labeling: Labeling, names: Sequence[str], about: Mapping[str, Any], cfg: CfgNode) -> None:
    """Write annotations.json and RECORD from all shards, which are then removed.

    Args:
        names: of the labels' classes.
        about: what became of the teachers' classes, for RECORD.
        cfg: whose DATASETS.TRAIN has these classes.
    """
    unreadable = all_unreadable(shards, labeling)
    least = shards.least
    if labeling.score is None and labeling.choose == FREQUENCIES:
        least = _as_frequent(shards, len(labeling.images) - len(unreadable), cfg)
    if labeling.score is None:
        warn_of_bare(names, least, labeling.choose)
    written: list[Written] = []
    with kept(labeling.output):
        file = labeling.output / ANNOTATIONS
        write_atomic(file, lambda opened: written.append(write_coco(opened, shards, names, least, labeling.ignore)))
        seconds = shards.seconds + sum(content["seconds"] for content in shards.read())
        found = written[0].objects, written[0].labeled, written[0].highest
        record = labeling.record(names, least.tolist(), seconds, *found, unreadable) | dict(about)
        if labeling.sheet:
            write_sheet(labeling, sheet(shards, names, least, labeling.ignore), record)
        write_text(labeling.output / RECORD, json.dumps(record, indent=1) + "\n")
        shards.remove()
    ignored = f", {written[0].crowds} boxes to ignore" if labeling.ignore is not None else ""
    print(f"{sum(written[0].objects)} objects{ignored} in {record['images']} images\n{in_words(unreadable)}", end="")


def with_labels(cfg: CfgNode, folder: Path) -> list[str]:
    """Return the overrides that train cfg on the labels in a folder, too."""
    words = ["DATASETS.PSEUDO_LABELED", str([*cfg.DATASETS.PSEUDO_LABELED, str(folder)])]
    polygons = cfg.MODEL.MASK_ON and cfg.INPUT.MASK_FORMAT == "polygon"
    return [*words, "INPUT.MASK_FORMAT", "bitmask"] if polygons else words  # masks of a teacher are RLE


def unlabeled_images(cfg: CfgNode) -> Mapping[str, Path]:
    """List the images of DATASETS.UNLABELED by name.

    Raises:
        UserError: a data set that is not there.
    """
    names = with_only(cfg, "UNLABELED").DATASETS.UNLABELED
    files = [entry["file_name"] for name in names for entry in DatasetCatalog.get(name)]
    return {file: Path(file) for file in files}


def _read(cfgs: Sequence[CfgNode], file: str) -> tuple[list[dict[str, Any]], Any]:
    """Read an image as the teachers of these configs take it, and the sizes of that.

    Raises:
        UserError, DamagedError: it cannot be read as it is meant.
    """
    check_image(file)
    try:
        samples = [read_input(cfg, file)[0] for cfg in cfgs]
    except UserError:
        decode(Path(file))  # which says what is damaged
        raise
    return samples, tuple(sample["image"].shape for sample in samples)


def _see(
    teachers: Sequence[Trained],
    jitter: Sequence[Any],
    numbers: np.ndarray,
    kept_from: np.ndarray,
    items: Sequence[Item],
) -> list[dict[str, Any]]:
    """Return what a shard has of images: what the image is for COCO, and its boxes as COCO's results.

    Args:
        jitter: the detectors that say how far boxes move at their plain image; empty = none is asked.
        numbers: see _found.
        kept_from: for each class of the labels, the score from which on boxes are kept.
    """
    entries = []
    for item, found in zip(items, _found(teachers, [item.sample for item in items], numbers), strict=True):
        kept_ones = found[found.scores >= torch.as_tensor(kept_from)[found.pred_classes]]
        (height, width), number = kept_ones.image_size, item.number + 1
        about = {"id": number, "file_name": str(Path(item.file).resolve()), "height": height, "width": width}
        about["highest"] = found.scores.max().item() if len(found) else None
        boxes = instances_to_coco_json(kept_ones, number)
        if jitter:
            each = [
                box_variances(model, sample, kept_ones.pred_boxes, kept_ones.seen_as)
                for model, sample in zip(jitter, item.sample, strict=True)
            ]
            variances = torch.stack(each).mean(0).tolist()
            boxes = [box | {VARIANCE: variance} for box, variance in zip(boxes, variances, strict=True)]
        entries.append(about | {"boxes": boxes})
    return entries


def _found(
    teachers: Sequence[Trained], images: Sequence[Sequence[dict[str, Any]]], numbers: np.ndarray
) -> list[Instances]:
    """Return what the teachers see in images of one size, with the numbers that their classes have in labels, and as
    seen_as those that they have for the teachers.

    Args:
        images: of each the sample for each teacher.
        numbers: for each of the teachers' classes, below 0 where labels do not have it.
    """
    by_teacher = zip(teachers, zip(*images, strict=True), strict=True)
    seen = [predict_batch(teacher.model, samples) for teacher, samples in by_teacher]
    result = []
    for of_image in zip(*seen, strict=True):
        found = of_image[0] if len(of_image) == 1 else fuse(of_image)
        found.seen_as = found.pred_classes
        found.pred_classes = torch.as_tensor(numbers)[found.pred_classes]
        result.append(found[found.pred_classes >= 0])
    return result


def _chosen(teachers: Sequence[Trained], numbers: np.ndarray, count: int, labeling: Labeling) -> np.ndarray:
    """Choose for each class of the labels the score from which on F1 on DATASETS.TEST is best, or a precision is
    reached; boxes on crowds are no errors.

    DATASETS.TEST is the teacher's. A detector from elsewhere has none, and it is the student's.

    Args:
        numbers: see _found.
        count: of the labels' classes.
    """
    theirs, way = teachers[0].cfg, labeling.choose
    is_students = labeling.student is not None and theirs.MODEL.KIND != DETECTRON2
    cfg = with_only(labeling.student if is_students else theirs, "TEST")
    of_truth = np.arange(count) if is_students else numbers
    calibration, any_truth = Calibration(count), False
    for sample in tqdm(test_samples(cfg, None), "choosing thresholds", disable=not on_terminal()):
        if sample.objects is None:
            continue
        samples = [read_input(teacher.cfg, sample.file)[0] for teacher in teachers]
        (found,), objects = _found(teachers, [samples], numbers), _renumbered(sample.objects, of_truth)
        right, _ = match(found, objects)
        crowds = None if sample.crowds is None else _renumbered(sample.crowds, of_truth)
        counted = right | ~on_crowds(found, crowds)
        found, right = found[counted], right[counted]
        truth = objects.gt_classes.numpy()
        any_truth |= len(truth) > 0
        calibration.add(found.pred_classes.numpy(), found.scores.numpy(), right.numpy(), truth)
    if not any_truth:
        raise UserError(f"{option_of(way)}: DATASETS.TEST has no objects to choose by: name data that has some")
    return calibration.thresholds(read_way(way))


def _renumbered(objects: Instances, numbers: np.ndarray) -> Instances:
    classes = torch.as_tensor(numbers)[objects.gt_classes]
    known = objects[classes >= 0]
    known.gt_classes = classes[classes >= 0]
    return known


def _as_frequent(shards: Shards, images: int, cfg: CfgNode) -> np.ndarray:
    """Choose for each class the score from which on an image has as many boxes as objects in DATASETS.TRAIN.

    Args:
        images: how many the shards have.
        cfg: whose DATASETS.TRAIN has the classes of the labels.

    Raises:
        UserError: DATASETS.TRAIN has no objects.
    """
    dicts = [d for name in with_only(cfg, "TRAIN").DATASETS.TRAIN for d in DatasetCatalog.get(name)]
    truth = [a["category_id"] for d in dicts for a in d.get("annotations", []) if not a.get("iscrowd")]
    if not truth:
        raise UserError("--choose-by frequencies: DATASETS.TRAIN has no objects to count: name data that has some")
    objects = np.bincount(truth, minlength=class_count(cfg))
    calibration = Calibration(len(objects))
    for content in shards.read():
        boxes = [box for image in content["images"] for box in image["boxes"]]
        classes, scores = (np.array([box[key] for box in boxes]) for key in ("category_id", "score"))
        calibration.add(classes, scores, np.zeros(len(boxes), bool), np.zeros(0))
    return calibration.thresholds_of_counts(objects * images / len(dicts))
