"""The relations among a segmentation model's classes, on the very logits that distillation compares."""

from collections.abc import Sequence
from pathlib import Path

import torch
from detectron2.config import CfgNode
from torch import Tensor

from common.relation_picture import draw_relations
from common.relations import Relations
from seg.data import Frame, Reader
from seg.labels import Classes
from seg.segmenter import Segmenter
from seg.teacher import SegTeacher


@torch.no_grad()
def relations_of(cfg: CfgNode, model: Segmenter, teacher: SegTeacher | None, frames: Sequence[Frame]) -> Relations:
    """Relations over the frames at DISTILL.DIST.TAU: rows are the pixels of the student's logits, columns classes.

    The teacher's logits are resized to the student's.

    Args:
        model: the student, in eval mode.
    """
    classes = Classes.of(cfg)
    relations, read = Relations(len(classes), cfg.DISTILL.DIST.TAU), Reader(classes, cfg.INPUT.FORMAT)
    for frame in frames:
        image = read(frame)["image"]
        student = {"cls_logits": model.network(model.network.preprocess([image]))["cls_logits"]}
        theirs = None if teacher is None else _rows(teacher.output([image], student)["cls_logits"])
        relations.add(_rows(student["cls_logits"]), theirs)
    return relations


def draw(relations: Relations, cfg: CfgNode, file: Path, with_teacher: bool) -> None:
    """Draw relations_of."""
    draw_relations(relations, Classes.of(cfg).names, "pixels", file, with_teacher)


def _rows(logits: Tensor) -> Tensor:
    """(N, K, h, w) -> (N·h·w, K)."""
    return logits.movedim(1, -1).flatten(0, -2)
