"""A trained student beside its teacher and the truth, in pictures, and the relations among its classes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from detectron2.config import CfgNode
from torch import Tensor

from densedist.common.data.images import find_images, unique_names
from densedist.common.distill.teacher_files import with_teacher
from densedist.common.report.relations import Relations, draw_relations
from densedist.common.run_files import Weights, load_beside
from densedist.common.task import ImageSource
from densedist.seg.data.frames import Frame, bare_frames
from densedist.seg.data.reading import Reader
from densedist.seg.inference.pictures import first_frames, overview, picture, views
from densedist.seg.inference.predict import refuse_score
from densedist.seg.labels import Classes
from densedist.seg.models import load_trained, read_config
from densedist.seg.segmenter import Segmenter
from densedist.seg.teacher import SegTeacher, load_teacher

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
        score: None: it is for detectors.
        others: more models by name, of the same classes.

    Returns:
        the number of images.

    Raises:
        UserError: wrong weights, data or images, or other classes beside it.
    """
    refuse_score(score)
    trained = load_trained(student)
    cfg, model, classes = trained.cfg, trained.model, trained.classes
    frames = (
        bare_frames(find_images([str(source.folder)], source.count))
        if source.folder
        else first_frames(cfg, source.count)
    )
    run = with_teacher(read_config(student.config, student.overrides, student.trusted), teacher)
    taught = load_teacher(run) if run is not None else None
    known = load_beside(others, load_trained, lambda other: other.classes.names, classes.names)
    seen = views(cfg, model, taught, frames, known)
    names = unique_names([view.name for view in seen], taken=("overview", "relations"))
    for name, view in zip(names, seen, strict=True):
        picture(view, classes, output / f"{name}.png")
    overview(seen[:OVERVIEW], classes, output / "overview.png")
    relations = relations_of(cfg, model, taught, frames)
    draw_relations(relations, classes.names, "pixels", output / "relations.png", taught is not None)
    print(f"{len(seen)} images: {output}")
    return len(seen)


@torch.no_grad()
def relations_of(cfg: CfgNode, model: Segmenter, teacher: SegTeacher | None, frames: Sequence[Frame]) -> Relations:
    """Relations over the frames at DISTILL.DIST.TAU: rows are the pixels of the student's logits, columns classes.

    The teacher's logits are those at the places of the student's.

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
    """(N, K, h, w) -> (N·h·w, K)."""
    return logits.movedim(1, -1).flatten(0, -2)
