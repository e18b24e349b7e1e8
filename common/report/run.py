"""The page of a run: report.html and curves.png, with the student next to its teacher."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from densedist.common.report.heading import heading
from densedist.common.report.history import History, read_history
from densedist.common.report.page import Bar, Bars, Page, Table, write_page
from densedist.common.report.panels import Gallery
from densedist.common.report.plots import curves, draw_curves
from densedist.common.report.repeat import configured, starting, this_command, versions
from densedist.common.report.scores import (
    AS_GOOD,
    Scores,
    by_class,
    class_title,
    defined,
    flatten,
    in_words,
    overall,
    sizes,
)
from densedist.common.report.teacher import TeacherRun, look_up
from densedist.common.run_files import CONFIG, REPORT
from densedist.common.shell import quoted
from densedist.common.words import duration

ENOUGH = 100  # iterations, before which nothing is said of a method
WEAK_TEACHER = (
    "The {teacher} scores lower than {student}: a student can hardly gain from so weak a teacher. Train it longer, or "
    "take a stronger one."
)


@dataclass(frozen=True)
class Facts:
    """What the files of a run do not say.

    Args:
        plan: what was to be done.
        metric: by which the best checkpoint is chosen, e.g. "bbox/AP".
        machine: on what it was done.
        device: whose time it took: "CPU" or "GPU".
        processes: at a time.
        seed: the run's seed.
        parameters: number of the student's parameters.
        of_teacher: parameters of all that teach, 0 where they cannot be counted; None = there is no teacher.
        losses: the task's in words, as TrainingTask.losses.
        model: the kind of what is trained, as "PSPNet".
    """

    plan: str
    metric: str
    machine: str
    device: str = "CPU"
    processes: int = 1
    seed: int = 0
    parameters: int = 0
    of_teacher: int | None = None
    losses: Mapping[str, str] = field(default_factory=dict)
    model: str = "model"


def write_report(folder: Path, facts: Facts, gallery: Gallery | None = None) -> None:
    """Draw folder/curves.png and write folder/report.html, from what the run wrote there; nothing is evaluated.

    Args:
        folder: OUTPUT_DIR with config.yaml, metrics.json and results.json.
        gallery: pictures of test images.
    """
    history = read_history(folder)
    clock = history.get("train_seconds")
    if not clock:  # it ended before anything was written
        return
    draw_curves(history, facts.metric, facts.losses, folder / "curves.png")
    text = (folder / CONFIG).read_text()
    config = yaml.safe_load(text)
    scores = flatten(json.loads((folder / "results.json").read_text()))
    teacher = None if facts.of_teacher is None else look_up(config, facts.metric)
    task = config.get("TASK", "det")
    page = Page(
        title=heading(config, facts.model, teacher is not None),
        subtitle=f"Run {folder.resolve().name}{configured()}: {clock[-1].iteration} iterations, "
        f"{clock[-1].seconds:.0f} s in training steps; {facts.machine}",
        verdict=_verdict(scores, facts, teacher, clock[-1].iteration, config),
        notes=_notes(history, scores, facts, teacher, config),
        scores=_scores(scores, teacher),
        gallery=gallery,
        classes=_classes(scores, facts.metric, teacher),
        curves=curves(history, facts.metric, facts.losses),
        costs=_costs(history, facts, teacher),
        command=this_command(),
        again=quoted([*starting(), "train", task, "--config-file", CONFIG, "OUTPUT_DIR", "ANOTHER"]),
        facts={"seed": str(facts.seed), "versions": versions(), "machine": facts.machine},
        texts={"The plan": facts.plan, "All keys of the config": text},
    )
    write_page(page, folder / REPORT)


def _who(teacher: TeacherRun | None) -> str:
    """Return "student", or "model" for a run without a teacher."""
    return "model" if teacher is None else "student"


def is_short(iterations: int, config: Mapping[str, Any]) -> bool:
    """Return whether a run was too short to judge its method: it ended in its warm-up, or soon."""
    return iterations < ENOUGH or iterations <= _warmup(config)


def _warmup(config: Mapping[str, Any]) -> int:
    """Return the iterations of the warm-up of the learning rate."""
    warmup: int = config.get("SOLVER", {}).get("WARMUP_ITERS", 0)
    return warmup


def _verdict(
    scores: Scores, facts: Facts, teacher: TeacherRun | None, iterations: int, config: Mapping[str, Any]
) -> str:
    value, name = scores.get(facts.metric), in_words(facts.metric)
    if not scores:
        return "Nothing was evaluated: DATASETS.TEST is empty, or has no labels."
    if value is None:
        return f"The {name} is undefined on this test data."
    said = f"The {_who(teacher)} reaches {name} {value:.1f}"
    if is_short(iterations, config):
        return f"{said} after {iterations} iterations: the run is too short to judge it."
    if teacher is None:
        return f"{said}."
    above = teacher.scores.get(facts.metric)
    if above is None:
        return f"{said}. Its teacher's score on this data is not known."
    apart = f"{abs(value - above):.1f} points {'below' if value < above else 'above'} its teacher's {above:.1f}"
    if abs(value - above) < AS_GOOD:
        apart = f"the same as its teacher ({above:.1f})"
    smaller = ""
    if facts.parameters and facts.of_teacher:
        share = 100 * facts.parameters / facts.of_teacher
        smaller = f", with {f'{share:.2g}' if share < 10 else f'{share:.0f}'} % of the teacher's parameters"
    return f"{said}, {apart}{smaller}."


def _notes(
    history: History, scores: Scores, facts: Facts, teacher: TeacherRun | None, config: Mapping[str, Any]
) -> list[str]:
    notes = []
    if history["train_seconds"][-1].iteration <= (warmup := _warmup(config)):
        notes.append(
            f"The run ended within its warm-up of {warmup} iterations, so the learning rate stayed low and it learned "
            "little."
        )
    if teacher is not None and scores:
        known = "The teacher's scores are" if teacher.scores else "The teacher's scores are not known:"
        notes.append(f"{known} {teacher.note}.")
        ours, theirs = scores.get(facts.metric), teacher.scores.get(facts.metric)
        if ours is not None and theirs is not None and ours - theirs >= AS_GOOD:
            notes.append(WEAK_TEACHER.format(teacher="teacher", student="its student"))
        notes.append(
            "One run does not show what the teacher added: densedist compare also trains the student without it, "
            "with several seeds."
        )
    points = [point for point in history.get(facts.metric, ()) if defined(point.value) is not None]
    if len(points) > 1:
        best = max(points, key=lambda point: point.value)
        name = in_words(facts.metric)
        notes.append(f"The highest {name} during training was {best.value:.1f}, after {best.iteration} iterations.")
    elif points:
        period = config.get("TEST", {}).get("EVAL_PERIOD", 0)
        notes.append(f"The run was evaluated at its end only. {how_to_get_curves(period, points[-1].iteration)}.")
    return notes


def how_to_get_curves(period: int, iterations: int) -> str:
    """Say what TEST.EVAL_PERIOD a run needs for a score on the way.

    Args:
        period: TEST.EVAL_PERIOD, with which there is none.
        iterations: length of the run.
    """
    if period <= 0:
        return "TEST.EVAL_PERIOD N evaluates every N iterations, and gives curves"
    return (
        f"TEST.EVAL_PERIOD is {period}, but the run has only {iterations} iterations: a lower value, such as "
        f"{max(iterations // 5, 1)}, gives curves"
    )


def _scores(scores: Scores, teacher: TeacherRun | None) -> Table | None:
    if not scores:
        return None
    ours = overall(scores)
    if teacher is None:
        found = [[in_words(name), _number(value)] for name, value in ours.items()]
        return Table(["", "model"], found, sizes(scores))
    rows = []
    for name, value in ours.items():
        other = teacher.scores.get(name)
        known = _number(other) if teacher.scores else "not known"
        rows.append([in_words(name), known, _number(value), _difference(value, other)])
    return Table(["", "teacher", "student", "difference"], rows, sizes(scores))


def _classes(scores: Scores, metric: str, teacher: TeacherRun | None) -> Bars:
    theirs = by_class(teacher.scores, metric) if teacher else {}
    rows = []
    for name, value in by_class(scores, metric).items():
        other = theirs.get(name)
        rows.append(Bar(name, other, value, None if value is None or other is None else value - other))
    note = "Differences from the teacher, the best first." if theirs else ""
    return Bars(class_title(metric), "teacher" if theirs else "", _who(teacher), rows, note)


def _costs(history: History, facts: Facts, teacher: TeacherRun | None) -> Table:
    clock = history["train_seconds"][-1]
    rows = [[_who(teacher), _millions(facts.parameters), *_time(clock.iteration, clock.seconds)]]
    if teacher is not None:
        parameters = _millions(facts.of_teacher or 0)
        rows.insert(0, ["teacher, its own training", parameters, *_time(teacher.iterations, teacher.seconds)])
        if once := history.get("once_seconds"):
            rows.append(["filling the teacher's cache", "", "", f"{once[-1].value:.0f} s", ""])
    note = f"Training the {_who(teacher)} took {duration(clock.seconds)} on "
    if facts.processes == 1:
        note += f"the {facts.device}"
    else:
        each = "GPUs" if facts.device == "GPU" else "processes on the CPU"
        note += f"each of {facts.processes} {each}, {duration(facts.processes * clock.seconds)} together"
    note += "; the teacher's predictions for it are part of that." if teacher else "."
    note += " Only training steps are counted, not evaluations."
    if teacher is not None and not teacher.iterations:
        note += f" The cost of the teacher's own training is not known: {teacher.note}."
    return Table(["", "parameters", "iterations", "training", "seconds per iteration"], rows, note)


def _time(iterations: int, seconds: float) -> list[str]:
    if not iterations:
        return ["not known"] * 3
    return [str(iterations), f"{seconds:.0f} s", f"{seconds / iterations:.3g}"]


def _millions(parameters: int) -> str:
    return f"{parameters / 1e6:.2f} M" if parameters else "not known"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _difference(value: float | None, other: float | None) -> str:
    return "" if value is None or other is None else f"{value - other:+z.1f}"
