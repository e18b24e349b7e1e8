"""A trained student beside its teacher and the truth, in pictures, and the relations among its classes."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import nn

from densedist.common.labeling import check_score
from densedist.common.report.relations import Relations, draw_relations
from densedist.common.run_files import Weights
from densedist.common.task import ImageSource
from densedist.common.visualize import RELATIONS, draw_gallery, load_together
from densedist.det.architectures import distilling_class
from densedist.det.config import keys
from densedist.det.data.reading import read_input
from densedist.det.datasets import class_labels
from densedist.det.distilling import Distilling
from densedist.det.inference.pictures import overview, picture, views
from densedist.det.inference.samples import Sample, samples_of
from densedist.det.models import Trained, load_trained, read_config
from densedist.det.teacher.teacher import DetTeacher

logger = logging.getLogger(__name__)


def visualize(
    student: Weights,
    teacher: str,
    others: Mapping[str, Weights],
    source: ImageSource,
    output: Path,
    score: float | None,
) -> int:
    """Draw truth, teacher and student, and the relations among classes where something distills the student."""
    if score is not None:
        check_score(score)
    trained, taught, known = load_together(
        student, teacher, others, load_trained, lambda one: one.classes, read_config, _load_teacher, keys()
    )
    cfg, model, classes = trained.cfg, trained.model, trained.classes
    samples = samples_of(cfg, source)
    seen = views(cfg, model, taught, samples, score, known)
    draw_gallery(
        seen,
        lambda view, file: picture(view, classes, file),
        lambda first, file: overview(first, classes, file),
        output,
    )
    if kind := distilling_class(type(model).__name__):
        columns = [*class_labels(cfg), *kind.class_columns(model)[1]]
        found = relations_of(cfg, kind, model, taught, samples)
        draw_relations(found, columns, kind.row, output / RELATIONS, taught is not None)
    else:
        logger.warning(f"without {RELATIONS}: a {type(model).__name__} cannot be distilled")
    return len(seen)


def _load_teacher(trained: Trained, cfg: CfgNode) -> DetTeacher | None:
    kind = distilling_class(type(trained.model).__name__)
    return kind.load_teachers(cfg) if kind else None


@torch.no_grad()
def relations_of(
    cfg: CfgNode, kind: type[Distilling], model: nn.Module, teacher: DetTeacher | None, samples: Sequence[Sample]
) -> Relations:
    """Measure the relations among a detector's classes over samples, at DISTILL.DIST.TAU, on the rows of class_rows.

    Args:
        kind: the class that distills the model.
        model: the student, in eval mode.
    """
    activation, extra = kind.class_columns(model)
    relations = Relations(len(class_labels(cfg)) + len(extra), cfg.DISTILL.DIST.TAU, activation)
    for sample in samples:
        inputs: dict[str, Any] = read_input(cfg, sample.file)[0]
        relations.add(*kind.class_rows(model, teacher, inputs))
    return relations
