"""The relations among a detector's classes, on the very logits that distillation compares."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling.meta_arch import GeneralizedRCNN, RetinaNet
from torch import Tensor, nn

from common.relation_picture import draw_relations
from common.relations import Relations
from det import box_head
from det.data import class_labels
from det.inference import read_input
from det.rcnn_teacher import RCNNTeacher
from det.retinanet import rows
from det.retinanet_teacher import RetinaNetTeacher
from det.samples import Sample

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
