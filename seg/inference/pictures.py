"""What a student, its teacher and the labels make of the same images, and where they differ."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from matplotlib.patches import Patch

from densedist.common.data.headers import read_header
from densedist.common.data.images import evenly, find_images
from densedist.common.data.survey import Survey
from densedist.common.errors import UserError
from densedist.common.modules import eval_mode
from densedist.common.report.panels import Panel, draw_in_lines, draw_overview, draw_side_by_side
from densedist.common.task import ImageSource, Trainee
from densedist.seg.data.frames import Frame, bare_frames
from densedist.seg.data.reading import Reader, count_pixels
from densedist.seg.datasets import SIDES, test_frames
from densedist.seg.drawing import (
    NEITHER,
    STUDENT_RIGHT,
    TEACHER_RIGHT,
    UNCLEAR,
    WRONG,
    class_legend,
    colorize,
    differing,
    kind_colors,
    kind_legend,
    mark,
    overlay,
    to_rgb,
    wrong,
)
from densedist.seg.labels import IGNORE, Classes
from densedist.seg.models import Trained
from densedist.seg.segmenter import Segmenter, predict
from densedist.seg.teacher import SegTeacher


@dataclass(frozen=True)
class View:
    """An image (H, W, 3), RGB, and trainIds (H, W): the truth's, the teacher's, both if known, the student's, and those
    of more models by name."""

    name: str
    image: np.ndarray
    truth: np.ndarray | None
    teacher: np.ndarray | None
    student: np.ndarray
    others: Mapping[str, np.ndarray] = field(default_factory=dict)


def draw_examples(cfg: CfgNode, trainee: Trainee, file: Path) -> None:
    """Draw what teacher and student make of TEST.EXAMPLES images, spread over DATASETS.TEST, for models in memory.

    Args:
        trainee: in any mode, which it keeps.
        file: the PNG to write.

    Raises:
        UserError: an image or a label cannot be read.
    """
    teacher: Any = trainee.distillation.teacher if trainee.distillation else None
    model: Any = trainee.model
    frames = evenly(test_frames(cfg), cfg.TEST.EXAMPLES)
    overview(views(cfg, model, teacher, frames), Classes.of(cfg), file)


def frames_of(cfg: CfgNode, source: ImageSource) -> list[Frame]:
    """List the first frames of a folder of images, or of DATASETS.TEST with their labels.

    Raises:
        UserError: there are none, or one cannot be used.
    """
    if source.folder:
        return bare_frames(find_images([str(source.folder)], source.count))
    if not cfg.DATASETS.TEST:
        raise UserError("DATASETS.TEST is empty: name a split, or a folder of images")
    return test_frames(cfg)[: source.count]


def views(
    cfg: CfgNode,
    model: Segmenter,
    teacher: SegTeacher | None,
    frames: Sequence[Frame],
    beside: Mapping[str, Trained] | None = None,
) -> list[View]:
    """What the models make of the frames; student and teacher by the student's inference.

    Args:
        beside: more models by name, by their own inference.
    """
    theirs = None if teacher is None else Segmenter(teacher.in_float32(), model.inference).eval()
    with eval_mode(model):
        seen = [_view(cfg, model, teacher, theirs, frame) for frame in frames]
    return [
        replace(view, others={name: _predicted(other, frame) for name, other in (beside or {}).items()})
        for view, frame in zip(seen, frames, strict=True)
    ]


def _predicted(trained: Trained, frame: Frame) -> np.ndarray:
    return predict(trained.model, Reader(trained.classes, trained.cfg.INPUT.FORMAT)(frame)["image"])


def _view(cfg: CfgNode, model: Segmenter, teacher: SegTeacher | None, theirs: Segmenter | None, frame: Frame) -> View:
    sample = Reader(Classes.of(cfg), cfg.INPUT.FORMAT)(frame)
    image, truth, seen = sample["image"], None, None
    if "sem_seg" in sample:
        truth = sample["sem_seg"].numpy()
    if teacher is not None and theirs is not None:
        seen = predict(theirs, teacher.own_order([image])[0])
    return View(frame["name"], to_rgb(image, cfg.INPUT.FORMAT), truth, seen, predict(model, image))


def overview(seen: Sequence[View], classes: Classes, file: Path) -> None:
    """Draw image, truth, teacher, student and errors, as far as they are there, of one or more images in columns."""
    columns = [[*_segmentations(view, classes), *_differences(view, classes)] for view in seen]
    draw_overview(columns, _legend(seen, classes), "", file)


def picture(view: View, classes: Classes, file: Path) -> None:
    """Draw image, truth, teacher and student, and below them where they differ, as far as they are there."""
    lines = [_segmentations(view, classes)]
    if differences := _differences(view, classes):
        blank = Panel(np.full_like(view.image, 255), "")
        lines.append([*[blank] * (len(lines[0]) - len(differences)), *differences])
    draw_side_by_side(lines, _legend([view], classes), "", file)


def _segmentations(view: View, classes: Classes) -> list[Panel]:
    labels = {"truth": view.truth, "teacher": view.teacher, **view.others, "student": view.student}
    drawn = [Panel(colorize(x, classes.colors), name) for name, x in labels.items() if x is not None]
    return [Panel(view.image, "image"), *drawn]


def _differences(view: View, classes: Classes) -> list[Panel]:
    colors, result = kind_colors(classes.colors), []

    def panel(kinds: np.ndarray, name: str, verb: str, of: int) -> Panel:
        return Panel(mark(view.image, kinds, colors), name, f"{np.count_nonzero(kinds) / max(of, 1):.1%} {verb}")

    if view.teacher is not None:
        kinds = differing(view.student, view.teacher, view.truth)
        result.append(panel(kinds, "teacher/student", "differ", kinds.size))
    labeled = 0 if view.truth is None else int((view.truth != IGNORE).sum())
    for name, prediction in {"teacher": view.teacher, **view.others, "student": view.student}.items():
        if view.truth is not None and prediction is not None:
            result.append(panel(wrong(prediction, view.truth), f"{name}'s errors", "wrong", labeled))
    return result


def _legend(seen: Sequence[View], classes: Classes) -> list[Patch]:
    """The classes, ignored pixels where there are any, and the kinds that there can be."""
    ignored = any(view.truth is not None and bool((view.truth == IGNORE).any()) for view in seen)
    labeled, taught = seen[0].truth is not None, seen[0].teacher is not None
    kinds = [WRONG] if labeled else []
    if taught and labeled:
        kinds += [STUDENT_RIGHT, TEACHER_RIGHT, NEITHER]
    if taught and (ignored or not labeled):
        kinds.append(UNCLEAR)
    entries = class_legend(classes.names, classes.colors, ignored)
    return [*entries, *kind_legend(kinds, kind_colors(classes.colors))]


IGNORED = "(ignored)"


def survey(cfg: CfgNode, side: str) -> Survey:
    """Of DATASETS.TRAIN, UNLABELED or TEST; all labels are read."""
    frames, classes = SIDES[side](cfg), Classes.of(cfg)
    read = Reader(classes, cfg.INPUT.FORMAT)
    sizes = Counter(read_header(frame["image"]).size for frame in frames)
    labeled = [frame for frame in frames if frame["label"]]
    total = count_pixels(read, labeled, side).sum(0)
    pixels = {name: int(total[number]) for number, name in enumerate(classes.names)} | {IGNORED: int(total[IGNORE])}
    return Survey(side, sizes, len(labeled), pixels, "pixels")


def draw_data(cfg: CfgNode, side: str, count: int, file: Path) -> None:
    """Draw images, spread over a side of DATASETS, and their labels over them."""
    classes = Classes.of(cfg)
    read, columns, ignored = Reader(classes, cfg.INPUT.FORMAT), [], False
    for frame in evenly(SIDES[side](cfg), count):
        sample = read(frame)
        image = to_rgb(sample["image"], cfg.INPUT.FORMAT)
        panels = [Panel(image, frame["name"])]
        if "sem_seg" in sample:
            labels = sample["sem_seg"].numpy()
            panels.append(Panel(overlay(image, labels, classes.colors), "labels"))
            ignored = ignored or bool((labels == IGNORE).any())
        columns.append(panels)
    draw_in_lines(columns, class_legend(classes.names, classes.colors, ignored), f"DATASETS.{side}", file)
