"""A trained student beside its teacher and the truth, in pictures."""

import argparse
import logging

from detectron2.config import CfgNode
from detectron2.modeling.meta_arch import RetinaNet
from torch import nn

from densedist.common.engine.locate import locate, with_teacher
from densedist.det import rcnn_teacher, relations, retinanet_teacher
from densedist.det.data import with_test_alone
from densedist.det.predict import check_score
from densedist.det.pictures import overview, picture, views
from densedist.det.rcnn import RCNNTeacher
from densedist.det.retinanet import RetinaNetTeacher
from densedist.det.visualize import folder_samples, test_samples
from densedist.det.models import load_trained
from densedist.det.task import read_config

logger = logging.getLogger(__name__)
OVERVIEW = 6  # images in overview.png


def main(args: argparse.Namespace) -> None:
    """Write one PNG for each image, overview.png and relations.png, as the options of tools/visualize.py say."""
    if args.score_threshold is not None:
        check_score(args.score_threshold)
    trained = load_trained(args.weights, args.config_file, args.opts)
    cfg, model = trained.cfg, trained.model
    count, folder = args.images, args.folder
    samples = folder_samples(folder, count) if folder else test_samples(with_test_alone(cfg), count)
    run = with_teacher(read_config(locate(args.weights, args.config_file)[1], args.opts), args.teacher)
    teacher = _load(run, model) if run is not None else None
    seen = views(cfg, model, teacher, samples, args.score_threshold)
    for view in seen:
        picture(view, trained.classes, args.output / f"{view.name}.png")
    overview(seen[:OVERVIEW], trained.classes, args.output / "overview.png")
    if isinstance(model, relations.KINDS):
        found = relations.relations_of(cfg, model, teacher, samples)
        relations.draw(found, cfg, args.output / "relations.png", teacher is not None)
    else:
        logger.warning(f"without relations.png: {type(model).__name__} is no R-CNN and no RetinaNet")
    print(f"{len(seen)} images: {args.output}")


def _load(run: CfgNode, model: nn.Module) -> RCNNTeacher | RetinaNetTeacher:
    if isinstance(model, RetinaNet):
        return retinanet_teacher.load_teacher(run)
    return rcnn_teacher.load_teacher(run)


#### MERGED FROM det.samples
"""Images to look at: of DATASETS.TEST with their objects, or of a folder."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.data.detection_utils import annotations_to_instances
from detectron2.structures import BoxMode, Instances

from densedist.common.errors import UserError
from densedist.common.data.images import find_images


@dataclass(frozen=True)
class Sample:
    """An image file and its objects (gt_boxes, gt_classes, in pixels of the file); None = they are not known."""

    name: str
    file: Path
    objects: Instances | None


def test_samples(cfg: CfgNode, count: int) -> list[Sample]:
    """The first images of DATASETS.TEST, with their objects but for crowds.

    Raises:
        UserError: DATASETS.TEST is empty.
    """
    if not cfg.DATASETS.TEST:
        raise UserError("DATASETS.TEST is empty: name the data set, or a folder of images")
    dicts = chain.from_iterable(DatasetCatalog.get(name) for name in cfg.DATASETS.TEST)
    return [_sample(entry) for entry in islice(dicts, count)]


def folder_samples(folder: str, count: int) -> list[Sample]:
    """The first images of a folder.

    Raises:
        UserError: there are none, or one cannot be used.
    """
    return [Sample(name, file, None) for name, file in find_images([folder], count).items()]


def _sample(entry: dict) -> Sample:
    objects = None
    if "annotations" in entry:
        objects = annotations_to_instances(list(_countable(entry["annotations"])), (entry["height"], entry["width"]))
    file = Path(entry["file_name"])
    return Sample(file.stem, file, objects)


def _countable(annotations: list[dict]) -> Iterator[dict]:
    for annotation in annotations:
        if not annotation.get("iscrowd"):
            box = BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS)
            yield {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": annotation["category_id"]}


#### MERGED FROM det.relations
"""The relations among a detector's classes, on the very logits that distillation compares."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling.meta_arch import GeneralizedRCNN, RetinaNet
from torch import Tensor, nn

from densedist.common.report.relations import draw_relations
from densedist.common.report.relations import Relations
from densedist.det import box_head
from densedist.det.data import class_labels
from densedist.det.predict import read_input
from densedist.det.rcnn import RCNNTeacher
from densedist.det.retinanet import rows
from densedist.det.retinanet import RetinaNetTeacher
from densedist.det.visualize import Sample

KINDS = (GeneralizedRCNN, RetinaNet)


def relations_of(
    cfg: CfgNode, model: nn.Module, teacher: RCNNTeacher | RetinaNetTeacher | None, samples: Sequence[Sample]
) -> Relations:
    """Relations over the samples, at DISTILL.DIST.TAU.

    Two-stage: rows are the student's best proposals, on which both models classify (of a cascade as
    DISTILL.TEACHER.CASCADE_STAGES says, the student by its first stage); columns the classes and background.
    One-stage: rows are the anchors of all levels, columns the classes.

    Args:
        model: the student, in eval mode.
    """
    one_stage = isinstance(model, RetinaNet)
    count = len(class_labels(cfg)) + (not one_stage)
    relations = Relations(count, cfg.DISTILL.DIST.TAU, "sigmoid" if one_stage else "softmax")
    with torch.no_grad():
        for sample in samples:
            ours, _ = read_input(cfg, sample.file)
            if isinstance(model, RetinaNet):
                assert not isinstance(teacher, RCNNTeacher)
                relations.add(*_of_anchors(model, teacher, ours))
            else:
                assert isinstance(model, GeneralizedRCNN)
                assert not isinstance(teacher, RetinaNetTeacher)
                relations.add(*_of_proposals(model, teacher, ours))
    return relations


def draw(relations: Relations, cfg: CfgNode, file: Path, with_teacher: bool) -> None:
    """Draw relations_of."""
    two_stage = relations.activation == "softmax"
    names = [*class_labels(cfg), *(["background"] if two_stage else [])]
    draw_relations(relations, names, "RoIs" if two_stage else "anchors", file, with_teacher)


def _of_proposals(
    model: GeneralizedRCNN, teacher: RCNNTeacher | None, sample: dict[str, Any]
) -> tuple[Tensor, Tensor | None]:
    images = model.preprocess_image([sample])
    features = model.backbone(images.tensor)
    proposals, _ = model.proposal_generator(images, features)
    boxes = [proposals[0].proposal_boxes[: model.roi_heads.batch_size_per_image]]
    student = box_head.cls_logits(model.roi_heads, features, boxes, "first")
    if teacher is None:
        return student, None
    return student, teacher.taps({"cls_logits"}, [sample["image"]], [boxes], [])["cls_logits"][0]


def _of_anchors(
    model: RetinaNet, teacher: RetinaNetTeacher | None, sample: dict[str, Any]
) -> tuple[Tensor, Tensor | None]:
    features = model.backbone(model.preprocess_image([sample]).tensor)
    maps, _ = model.head([features[level] for level in model.head_in_features])
    student = torch.cat([rows(x, model.num_classes) for x in maps])
    if teacher is None:
        return student, None
    theirs, _ = teacher.taps({"cls_logits"}, [sample["image"]], [])
    return student, torch.cat([rows(x, model.num_classes) for x in theirs])
