"""A trained student beside its teacher and the truth, in pictures, and the relations among its classes."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import nn

from densedist.common.data.images import unique_names
from densedist.common.distill.teacher_files import with_teacher
from densedist.common.labeling import check_score
from densedist.common.report.relations import Relations, draw_relations
from densedist.common.run_files import Weights, load_beside
from densedist.common.task import ImageSource
from densedist.det.data.reading import read_input
from densedist.det.datasets import class_labels, with_only
from densedist.det.distilling import Distilling, distilling_class
from densedist.det.inference.pictures import overview, picture, views
from densedist.det.inference.samples import Sample, folder_samples, test_samples
from densedist.det.models import load_trained, read_config
from densedist.det.teacher.detector import DetectorTeacher

logger = logging.getLogger(__name__)
OVERVIEW = 6  # images in overview.png


def visualize(
    student: Weights,
    teacher: str,
    others: Mapping[str, Weights],
    source: ImageSource,
    output: Path,
    score: float | None,
) -> int:
    """Write one PNG for each image, overview.png and relations.png.

    Args:
        teacher: its weights, or "none"; empty = the one that the config names.
        score: boxes below are not drawn; None: where F1 is best.
        others: more models by name, of the same classes.

    Returns:
        the number of images.

    Raises:
        UserError: wrong weights, data, images or score, or other classes beside it.
    """
    if score is not None:
        check_score(score)
    trained = load_trained(student)
    cfg, model = trained.cfg, trained.model
    samples = (
        folder_samples(str(source.folder), source.count)
        if source.folder
        else test_samples(with_only(cfg, "TEST"), source.count)
    )
    run = with_teacher(read_config(student.config, student.overrides, student.trusted), teacher)
    kind = distilling_class(type(model).__name__)
    taught = kind.load_teachers(run) if kind and run is not None else None
    known = load_beside(others, load_trained, lambda other: other.classes, trained.classes)
    seen = views(cfg, model, taught, samples, score, known)
    names = unique_names([view.name for view in seen], taken=("overview", "relations"))
    for name, view in zip(names, seen, strict=True):
        picture(view, trained.classes, output / f"{name}.png")
    overview(seen[:OVERVIEW], trained.classes, output / "overview.png")
    if kind:
        found = relations_of(cfg, kind, model, taught, samples)
        columns = [*class_labels(cfg), *kind.class_columns(model)[1]]
        draw_relations(found, columns, kind.row, output / "relations.png", taught is not None)
    else:
        logger.warning(f"without relations.png: nothing here distills a {type(model).__name__}")
    print(f"{len(seen)} images: {output}")
    return len(seen)


@torch.no_grad()
def relations_of(
    cfg: CfgNode, kind: type[Distilling], model: nn.Module, teacher: DetectorTeacher | None, samples: Sequence[Sample]
) -> Relations:
    """The relations among a detector's classes over the samples, at DISTILL.DIST.TAU, on kind's class_rows.

    Args:
        kind: which distills the model.
        model: the student, in eval mode.
    """
    activation, extra = kind.class_columns(model)
    relations = Relations(len(class_labels(cfg)) + len(extra), cfg.DISTILL.DIST.TAU, activation)
    for sample in samples:
        inputs: dict[str, Any] = read_input(cfg, sample.file)[0]
        relations.add(*kind.class_rows(model, teacher, inputs))
    return relations
