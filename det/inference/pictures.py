"""What a student, its teacher and the annotations see in the same images, side by side."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from detectron2.config import CfgNode
from detectron2.structures import Instances
from matplotlib.patches import Patch
from torch import nn

from densedist.common.labeling import SCORE
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
from densedist.common.task import Trainee
from densedist.common.visualize import View
from densedist.det.data.reading import read_input
from densedist.det.datasets import class_labels
from densedist.det.drawing import Marks, best_score, draw_marks, judged, labeled, legend, match, predicted
from densedist.det.inference.predict import predict
from densedist.det.inference.samples import Sample, count_samples, spread_samples
from densedist.det.models import Trained, load_trained
from densedist.det.teacher.teacher import DetTeacher

BALANCED = ", the threshold with the highest F1 on these images: few wrong boxes and few missed objects"


def draw_examples(
    cfg: CfgNode,
    trainee: Trainee,
    file: Path,
    beside: Mapping[str, Weights] | None = None,
    called: str = "student",
) -> Gallery:
    """Draw what the student and its teacher see in TEST.EXAMPLES images of DATASETS.TEST, for models in memory.

    Where there are two models, these are images in which the first and the student differ most; else they are spread.
    """
    teacher = trainee.distillation.teacher if trainee.distillation else None
    device = "MODEL.DEVICE", cfg.MODEL.DEVICE
    others = {name: load_trained(weights.under(*device)) for name, weights in (beside or {}).items()}
    two = teacher is not None or bool(others)
    samples = spread_samples(cfg, cfg.TEST.EXAMPLES * (CANDIDATES if two else 1))
    total = count_samples(cfg)
    seen = views(cfg, trainee.model, teacher, samples, None, others, called)
    which = which_images(len(seen), total)
    if two:
        names = f"{next(iter(seen[0].models))} and {called}"
        seen, which = furthest(seen, _apart, cfg.TEST.EXAMPLES, names, total)
    classes = class_labels(cfg)
    overview(seen, classes, file)
    panels = [_panels(view, classes) for view in seen]
    return Gallery([view.name for view in seen], panels, _legend(seen[0]), f"{which}. Drawn: {_title(seen[0])}")


def views(
    cfg: CfgNode,
    model: nn.Module,
    teacher: DetTeacher | None,
    samples: Sequence[Sample],
    score: float | None = None,
    beside: Mapping[str, Trained] | None = None,
    called: str = "student",
) -> list[View[Instances]]:
    """Run the models on the samples; the teacher sees the student's image, as when it is distilled.

    Args:
        score: boxes below are left out. None: below what suits each model, that is where its F1 over all samples is
            best (a distilled student's scores, say, can be right and low); SCORE where the truth is not known.
        beside: more models by name, each with images of its own size.
        called: the student's name.
    """
    read = [read_input(cfg, sample.file) for sample in samples]
    inputs, objects = [ours for ours, _ in read], [sample.objects for sample in samples]
    with eval_mode(model):
        student, least = _sure([predict(model, ours) for ours in inputs], objects, score)
    seen: Sequence[Instances | None] = [None] * len(samples)
    scores: dict[str, float | None] = {}
    if teacher is not None:
        theirs = teacher.in_float32()
        turned = [ours | {"image": teacher.prepare_images([ours["image"]])[0]} for ours in inputs]
        told = [teacher.predictions_in_student_classes(predict(theirs, x)) for x in turned]
        who = f"the first of {len(teacher.models)} teachers" if teacher.others else "teacher"
        seen, scores[who] = _sure(told, objects, score)
    others: dict[str, list[Instances]] = {}
    for name, other in (beside or {}).items():
        told = [predict(other.model, read_input(other.cfg, sample.file)[0]) for sample in samples]
        others[name], scores[name] = _sure(told, objects, score)
    rule = _rule({**scores, called: least}, score is None and None not in objects)
    return [
        View(
            sample.name, image, sample.objects, theirs, ours, {n: found[i] for n, found in others.items()}, called, rule
        )
        for i, (sample, (_, image), theirs, ours) in enumerate(zip(samples, read, seen, student, strict=True))
    ]


def overview(seen: Sequence[View[Instances]], names: Sequence[str], file: Path) -> None:
    """Draw truth, teacher and student, as far as they are there, of one or more images, each in a column."""
    draw_overview([_panels(view, names) for view in seen], _legend(seen[0]), _title(seen[0]), file)


def picture(view: View[Instances], names: Sequence[str], file: Path) -> None:
    """Draw truth, teacher and student, as far as they are there, of one image."""
    draw_side_by_side([_panels(view, names)], _legend(view), _title(view), file)


def _apart(view: View[Instances]) -> float:
    """Return the number of boxes of the first model and of the student that the other one does not have."""
    first, *_, last = view.models.values()
    right, hit = match(last, _as_objects(first))
    return float((~right).sum() + (~hit).sum())


def _sure(
    found: list[Instances], objects: Sequence[Instances | None], score: float | None
) -> tuple[list[Instances], float | None]:
    """Select the predictions that are drawn, and return the least score of them; None = SCORE, as none is better."""
    known = [o for o in objects if o is not None]
    if score is None and len(known) == len(found):
        score = best_score(found, known)
    least = SCORE if score is None else score
    return [image[image.scores >= least] for image in found], score


def _rule(scores: Mapping[str, float | None], judged_by_f1: bool) -> str:
    """Say which boxes are drawn.

    Args:
        scores: the least by model, as _sure() has it.
        judged_by_f1: whether they were chosen where F1 is best.
    """
    least = {name: f"{SCORE if value is None else value:.2f}" for name, value in scores.items()}
    each = " or ".join(f"{value} ({name})" for name, value in least.items())
    if len(set(least.values())) == 1:
        each = next(iter(least.values()))
    rule = f"boxes with a score of at least {each}"
    if not judged_by_f1:
        return rule
    unjudged = [name for name, value in scores.items() if value is None]
    if len(unjudged) < len(scores):
        rule += BALANCED
    if unjudged:
        whose = "its threshold is" if len(unjudged) == 1 else "their threshold is"
        rule += f". For {' and '.join(unjudged)}, no box is right at any score, so {whose} {SCORE:.2f}"
    return rule


def _panels(view: View[Instances], names: Sequence[str]) -> list[Panel]:
    result = [Panel(view.image, "image")]
    reference = view.truth
    if view.truth is not None:
        result = [_panel(view.image, "truth", "", [labeled(view.truth, names)])]
    if view.teacher is not None:
        result.append(_judged(view.image, "teacher", view.teacher, reference, names))
        reference = _as_objects(view.teacher) if reference is None else reference
    models = {**view.others, view.called: view.student}
    return [*result, *(_judged(view.image, name, found, reference, names) for name, found in models.items())]


def _judged(image: np.ndarray, name: str, found: Instances, objects: Instances | None, names: Sequence[str]) -> Panel:
    if objects is None:
        return _panel(image, name, "", [predicted(found, names)])
    marks, counts = judged(found, objects, names)
    return _panel(image, name, counts, marks)


def _panel(image: np.ndarray, name: str, note: str, marks: Sequence[Marks]) -> Panel:
    return Panel(image, name, note, partial(draw_marks, marks))


def _as_objects(found: Instances) -> Instances:
    return Instances(found.image_size, gt_boxes=found.pred_boxes, gt_classes=found.pred_classes)


def _title(view: View[Instances]) -> str:
    if view.truth is None and view.teacher is not None:
        return f"{view.rule}; the student's judged by the teacher's"
    return view.rule


def _legend(view: View[Instances]) -> list[Patch]:
    if view.truth is not None:
        return legend("truth")
    return [] if view.teacher is None else legend("teacher")
