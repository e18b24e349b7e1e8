"""What a student, its teacher and the labels make of the same images, and where they differ."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from matplotlib.patches import Patch

from densedist.common.data.images import evenly, first_images
from densedist.common.errors import UserError
from densedist.common.modules import eval_mode
from densedist.common.report.panels import (
    CANDIDATES,
    Gallery,
    Panel,
    draw_overview,
    draw_side_by_side,
    furthest,
    which_images,
)
from densedist.common.run_files import Weights
from densedist.common.task import ImageSource, Trainee
from densedist.common.visualize import View
from densedist.seg.data.frames import Frame, bare_frames
from densedist.seg.data.reading import Reader
from densedist.seg.datasets import test_frames
from densedist.seg.drawing import (
    class_legend,
    colorize,
    paint,
    to_rgb,
    wrong,
)
from densedist.seg.labels import IGNORE, Classes
from densedist.seg.models import Trained, load_trained
from densedist.seg.segmenter import Segmenter, predict
from densedist.seg.teacher.teacher import SegTeacher


def frames_of(cfg: CfgNode, source: ImageSource) -> list[Frame]:
    """List the first frames of a folder of images, or of DATASETS.TEST with their labels.

    Raises:
        UserError: there are none, or one cannot be used.
    """
    if source.folder:
        return bare_frames(first_images(source.folder, source.count))
    if not cfg.DATASETS.TEST:
        raise UserError("DATASETS.TEST is empty: name a split, or a folder of images")
    return test_frames(cfg)[: source.count]


def draw_examples(
    cfg: CfgNode,
    trainee: Trainee,
    file: Path,
    beside: Mapping[str, Weights] | None = None,
    called: str = "student",
) -> Gallery:
    """Draw what the student and its teacher make of TEST.EXAMPLES images of DATASETS.TEST, for models in memory.

    Where there are two models, these are images in which the first and the student differ most; else they are spread.
    """
    teacher: Any = trainee.distillation.teacher if trainee.distillation else None
    model: Any = trainee.model
    device = "MODEL.DEVICE", cfg.MODEL.DEVICE
    others = {name: load_trained(weights.under(*device)) for name, weights in (beside or {}).items()}
    two = teacher is not None or bool(others)
    there = test_frames(cfg)
    frames = evenly(there, cfg.TEST.EXAMPLES * (CANDIDATES if two else 1))
    seen = [replace(view, called=called) for view in views(cfg, model, teacher, frames, others)]
    which = which_images(len(seen), len(there))
    if two:
        seen, which = furthest(seen, _apart, cfg.TEST.EXAMPLES, " and ".join(_two(seen[0])), len(there))
    classes = Classes.of(cfg)
    overview(seen, classes, file)
    title = ". ".join(filter(None, [which, _explained(seen[0])]))
    return Gallery([v.name for v in seen], [_panels(v, classes) for v in seen], _legend(seen, classes), title)


def views(
    cfg: CfgNode,
    model: Segmenter,
    teacher: SegTeacher | None,
    frames: Sequence[Frame],
    beside: Mapping[str, Trained] | None = None,
) -> list[View[np.ndarray]]:
    """Run the models on the frames; student and teacher by the student's inference.

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


def overview(seen: Sequence[View[np.ndarray]], classes: Classes, file: Path) -> None:
    """Draw image, truth, teacher and student, as far as they are there, of one or more images in columns."""
    draw_overview([_panels(view, classes) for view in seen], _legend(seen, classes), _title(seen[0]), file)


def picture(view: View[np.ndarray], classes: Classes, file: Path) -> None:
    """Draw image, truth, teacher and student in plain colors, and below them, as an overview does, what is wrong."""
    labels = {} if view.truth is None else {"truth": view.truth}
    plain = [Panel(colorize(x, classes.colors), name) for name, x in {**labels, **view.models}.items()]
    image = Panel(view.image, "image")
    lines = [[image, *plain]]
    if _title(view):
        blank = Panel(np.full_like(view.image, 255), "")
        marked = [_predicted_panel(view, name, classes) for name in view.models]
        lines.append([*[blank] * (len(lines[0]) - len(marked)), *marked])
    draw_side_by_side(lines, _legend([view], classes), _title(view), file)


def _two(view: View[np.ndarray]) -> tuple[str, str]:
    """Return the names of the first model and of the student."""
    return next(iter(view.models)), view.called


def _apart(view: View[np.ndarray]) -> float:
    """Return the share of pixels, ignored ones left out, that the first model and the student tell otherwise."""
    first, last = (view.models[name] for name in _two(view))
    differ = first != last
    return float(differ.mean() if view.truth is None else (differ & (view.truth != IGNORE)).mean())


def _predicted(trained: Trained, frame: Frame) -> np.ndarray:
    return predict(trained.model, Reader(trained.classes, trained.cfg.INPUT.FORMAT)(frame)["image"])


def _view(
    cfg: CfgNode, model: Segmenter, teacher: SegTeacher | None, theirs: Segmenter | None, frame: Frame
) -> View[np.ndarray]:
    sample = Reader(Classes.of(cfg), cfg.INPUT.FORMAT)(frame)
    image, truth, seen = sample["image"], None, None
    if "sem_seg" in sample:
        truth = sample["sem_seg"].numpy()
    if teacher is not None and theirs is not None:
        seen = predict(theirs, teacher.in_channel_order([image])[0])
    return View(frame["name"], to_rgb(image, cfg.INPUT.FORMAT), truth, seen, predict(model, image))


def _panels(view: View[np.ndarray], classes: Classes) -> list[Panel]:
    truth = [] if view.truth is None else [Panel(paint(view.image, view.truth, classes.colors), "truth")]
    return [Panel(view.image, "image"), *truth, *(_predicted_panel(view, name, classes) for name in view.models)]


def _predicted_panel(view: View[np.ndarray], name: str, classes: Classes) -> Panel:
    """Draw what a model predicts where it is wrong; without truth where it differs from the teacher."""
    prediction = view.models[name]
    if view.truth is not None:
        where, counted, verb = wrong(prediction, view.truth), int((view.truth != IGNORE).sum()), "wrong"
    elif view.teacher is not None and name != "teacher":
        where, counted, verb = prediction != view.teacher, prediction.size, "differ from the teacher"
    else:
        return Panel(paint(view.image, prediction, classes.colors), name)
    note = f"{np.count_nonzero(where) / max(counted, 1):.1%} {verb}"
    return Panel(paint(view.image, prediction, classes.colors, where), name, note)


def _title(view: View[np.ndarray]) -> str:
    """Say in a line what is painted."""
    if view.truth is not None:
        return "Of a model's predictions only the wrong ones are colored"
    return "" if view.teacher is None else "Of other models' predictions only those unlike the teacher's are colored"


def _explained(view: View[np.ndarray]) -> str:
    """Say in sentences what is painted, without the last period."""
    if view.truth is not None:
        return (
            "The picture of a model is gray where it is right. Where it is wrong, it has the color of the class that "
            "it predicts, and the picture of the truth has the color of the right class"
        )
    if view.teacher is None:
        return ""
    return (
        "The teacher's picture has the colors of the classes that it predicts. That of another model is gray where it "
        "agrees with the teacher; elsewhere it has the color of the class that it predicts"
    )


def _legend(seen: Sequence[View[np.ndarray]], classes: Classes) -> list[Patch]:
    """Return the legend of the classes, of ignored pixels where there are any, and of those that stay gray."""
    ignored = any(view.truth is not None and bool((view.truth == IGNORE).any()) for view in seen)
    gray = "right" if seen[0].truth is not None else "as the teacher" if seen[0].teacher is not None else ""
    return class_legend(classes.names, classes.colors, ignored, f"{gray}, or ignored" if gray and ignored else gray)
