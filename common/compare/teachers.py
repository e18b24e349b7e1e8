"""Several teachers of one student: what each scores itself, and what the student gains from each."""

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from matplotlib.figure import Figure
from tabulate import tabulate

from densedist.common.compare.methods import NONE, TEACHER, setting, without
from densedist.common.compare.outcome import Gain, gain
from densedist.common.compare.report import PERCENT, Outcomes, interval, metric, values
from densedist.common.config import trust
from densedist.common.files import write_text
from densedist.common.run_files import locate
from densedist.common.task import Task

logger = logging.getLogger(__name__)

# By folder, a teacher's own metric in percent.
Scores = Mapping[str, float | None]


def own_words(cfg: CfgNode) -> list[str]:
    """The overrides that let a teacher's config run where the student's cfg does, and be trusted as far."""
    return ["MODEL.DEVICE", cfg.MODEL.DEVICE, *trust.words(cfg)]


def teachers(methods: Sequence[str]) -> list[str]:
    """The folders of the teachers that methods name."""
    return list(dict.fromkeys(folder for method in methods if (folder := setting(method, TEACHER))))


def scores(task: Task, cfg: CfgNode, folders: Sequence[str], file: Path) -> Scores:
    """Evaluate each teacher on DATASETS.TEST of the student's cfg, unless file has its score.

    One of other classes (DISTILL.TEACHER.CLASSES) has no score there.

    Args:
        folders: the OUTPUT_DIR of each.
        file: JSON, that is written.

    Returns:
        the first metric in percent, None where it is undefined.
    """
    if cfg.DISTILL.TEACHER.CLASSES or cfg.DISTILL.TEACHER.MISSING_CLASSES == "leave_out":
        logger.info("teachers of other classes than the student's are not evaluated on its data")
        return dict.fromkeys(folders)
    known = json.loads(file.read_text()) if file.is_file() else {}
    data = [word for key, value in cfg.DATASETS.items() for word in (f"DATASETS.{key}", str(value))]
    for folder in folders:
        if folder not in known:
            file.parent.mkdir(parents=True, exist_ok=True)
            weights = locate(folder, key=f"--methods: {TEACHER}")
            own = task.load_config(weights.config, [*own_words(cfg), *data], False)
            known[folder] = _first(task.evaluate(own, task.load_model(own, weights.file, weights.key)))
            write_text(file, json.dumps(known, indent=2) + "\n")
    return {folder: known[folder] for folder in folders}


def _first(results: Mapping[str, Any]) -> float | None:
    """The first metric of the first data set that has one."""
    for value in results.values():
        if isinstance(value, Mapping):
            if value:
                return _first(value)
        else:
            return None if value is None or math.isnan(value) else float(value)
    return None


def teacher_table(outcomes: Outcomes, of_teachers: Scores) -> str:
    """Each teacher with its score, and each method's gain over none with it, weak teachers first."""
    gains = {key: _words(found) for key, found in _gains(outcomes)}
    recipes = list(dict.fromkeys(recipe for recipe, _ in gains))
    rows = [
        [folder, _number(of_teachers[folder]), *(gains.get((recipe, folder), "") for recipe in recipes)]
        for folder in _ordered(of_teachers)
    ]
    head = ["teacher", f"its {metric(outcomes)}", *(f"gain of {recipe}" for recipe in recipes)]
    return tabulate(rows, head, tablefmt="pipe", disable_numparse=True)


def draw_teachers(outcomes: Outcomes, of_teachers: Scores, file: Path) -> None:
    """Draw the PNG: gain over none, with its interval, against the teacher's own score; a line for each method."""
    gains = dict(_gains(outcomes))
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axis = figure.subplots()
    for number, recipe in enumerate(dict.fromkeys(recipe for recipe, _ in gains)):
        there = [
            (score, gains[recipe, folder])
            for folder in _ordered(of_teachers)
            if (score := of_teachers[folder]) is not None and (recipe, folder) in gains
        ]
        spans = [(found.mean - found.interval[0] if found.interval else 0.0) for _, found in there]
        axis.errorbar(
            [score + 0.1 * number for score, _ in there],  # or the bars of two methods would hide each other
            [found.mean for _, found in there],
            yerr=spans,
            label=recipe,
            marker="o",
            capsize=3,
        )
    axis.axhline(0, color="gray", linewidth=0.8)
    axis.set_xlabel(f"{metric(outcomes)} of the teacher, percent")
    axis.set_ylabel(f"gain of the student over {NONE}, {metric(outcomes)}")
    axis.set_title(f"mean and {PERCENT} interval of the paired gain", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.3)
    if gains:
        axis.legend()
    figure.savefig(file, dpi=90)


def _gains(outcomes: Outcomes) -> Iterator[tuple[tuple[str, str], Gain]]:
    """By method without its teacher, and teacher."""
    none = values(outcomes.get(NONE, {}))
    for method, of_seeds in outcomes.items():
        if (folder := setting(method, TEACHER)) and (found := gain(values(of_seeds), none)):
            yield (without(method, TEACHER), folder), found


def _ordered(of_teachers: Scores) -> list[str]:
    return sorted(of_teachers, key=lambda folder: (of_teachers[folder] is not None, of_teachers[folder] or 0.0))


def _words(found: Gain) -> str:
    return f"{found.mean:+z.1f} {interval(found)}".strip()


def _number(score: float | None) -> str:
    return "-" if score is None else f"{score:.1f}"
