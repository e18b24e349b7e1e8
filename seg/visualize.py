"""A trained student beside its teacher and the truth, in pictures."""

import argparse

from densedist.common.errors import UserError
from densedist.common.data.images import find_images
from densedist.common.engine.locate import locate, with_teacher
from densedist.seg import relations
from densedist.seg.data import bare_frames
from densedist.seg.pictures import first_frames, overview, picture, views
from densedist.seg.teacher import load_teacher
from densedist.seg.models import load_trained
from densedist.seg.task import load_config

OVERVIEW = 6  # images in overview.png


def main(args: argparse.Namespace) -> None:
    """Write one PNG for each image, overview.png and relations.png, as the options of tools/visualize.py say."""
    if args.score_threshold is not None:
        raise UserError("--score-threshold is for detectors: leave it out")
    trained = load_trained(args.weights, args.config_file, args.opts)
    cfg, model, classes = trained.cfg, trained.model, trained.classes
    count, folder = args.images, args.folder
    frames = bare_frames(find_images([folder], count)) if folder else first_frames(cfg, count)
    run = with_teacher(load_config(locate(args.weights, args.config_file)[1], args.opts), args.teacher)
    teacher = load_teacher(run) if run is not None else None
    seen = views(cfg, model, teacher, frames)
    for view in seen:
        picture(view, classes, args.output / f"{view.name}.png")
    overview(seen[:OVERVIEW], classes, args.output / "overview.png")
    found = relations.relations_of(cfg, model, teacher, frames)
    relations.draw(found, cfg, args.output / "relations.png", teacher is not None)
    print(f"{len(seen)} images: {args.output}")


#### MERGED FROM seg.relations
"""The relations among a segmentation model's classes, on the very logits that distillation compares."""

from collections.abc import Sequence
from pathlib import Path

import torch
from detectron2.config import CfgNode
from torch import Tensor

from densedist.common.report.relations import draw_relations
from densedist.common.report.relations import Relations
from densedist.seg.data import Frame, Reader
from densedist.seg.labels import Classes
from densedist.seg.segmenter import Segmenter
from densedist.seg.teacher import SegTeacher


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
