"""A trained student beside its teacher and the truth, in pictures, and the relations among its classes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from detectron2.config import CfgNode
from torch import Tensor

from densedist.common.report.relations import Relations, draw_relations
from densedist.common.run_files import Weights
from densedist.common.task import ImageSource
from densedist.common.visualize import RELATIONS, draw_gallery, load_together
from densedist.seg.config import keys
from densedist.seg.data.frames import Frame
from densedist.seg.data.reading import Reader
from densedist.seg.inference.pictures import frames_of, overview, picture, views
from densedist.seg.inference.predict import refuse_score
from densedist.seg.labels import Classes
from densedist.seg.models import load_trained, read_config
from densedist.seg.segmenter import Segmenter
from densedist.seg.teacher.teacher import SegTeacher
from densedist.seg.teacher_loading import load_teacher


def visualize(
    student: Weights,
    teacher: str,
    others: Mapping[str, Weights],
    source: ImageSource,
    output: Path,
    score: float | None,
) -> int:
    """Draw truth, teacher, student and where they differ, and the relations among classes."""
    refuse_score(score)
    trained, taught, known = load_together(
        student,
        teacher,
        others,
        load_trained,
        lambda one: one.classes.names,
        read_config,
        lambda _, cfg: load_teacher(cfg),
        keys(),
    )
    cfg, model, classes = trained.cfg, trained.model, trained.classes
    frames = frames_of(cfg, source)
    seen = views(cfg, model, taught, frames, known)
    draw_gallery(
        seen,
        lambda view, file: picture(view, classes, file),
        lambda first, file: overview(first, classes, file),
        output,
    )
    relations = relations_of(cfg, model, taught, frames)
    draw_relations(relations, classes.names, "pixels", output / RELATIONS, taught is not None)
    return len(seen)


@torch.no_grad()
def relations_of(cfg: CfgNode, model: Segmenter, teacher: SegTeacher | None, frames: Sequence[Frame]) -> Relations:
    """Measure the relations among classes over frames, at DISTILL.DIST.TAU.

    Rows are the pixels of the student's logits, where the teacher's are resampled; columns are classes.

    Args:
        model: the student, in eval mode.
    """
    classes = Classes.of(cfg)
    relations, read = Relations(len(classes), cfg.DISTILL.DIST.TAU), Reader(classes, cfg.INPUT.FORMAT)
    for frame in frames:
        image = read(frame)["image"]
        batch = model.network.preprocess([image])
        student = {"cls_logits": model.network(batch)["cls_logits"]}
        theirs = None if teacher is None else _rows(teacher.output([image], student, batch.shape[2:])["cls_logits"])
        relations.add(_rows(student["cls_logits"]), theirs)
    return relations


def _rows(logits: Tensor) -> Tensor:
    """Rearrange logits (N, K, h, w) to (N·h·w, K)."""
    return logits.movedim(1, -1).flatten(0, -2)
