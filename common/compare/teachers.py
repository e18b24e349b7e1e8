"""Several teachers of one student: their own scores, and what the student gains from each."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from matplotlib.figure import Figure
from tabulate import tabulate

from densedist.common.compare.methods import TEACHER, folder_name, setting, together, without
from densedist.common.compare.names import NONE
from densedist.common.compare.outcome import Gain, gain
from densedist.common.compare.records import SCORES, Numbers
from densedist.common.compare.report import PERCENT, Outcomes, interval, metric, values
from densedist.common.distill.average import AVERAGE
from densedist.common.fingerprint import Fingerprints
from densedist.common.run_files import locate
from densedist.common.task import Task
from densedist.common.writers import own_words

logger = logging.getLogger(__name__)

# Parts of a fingerprint that a teacher's score depends on, apart from its weights.
OF_DATA = ("DATASETS.TEST", "DATASETS.CLASSES", "DATASETS.IGNORED", "DATASETS.LABELS")
PARTS = ("task", "MODEL", "INPUT", "TEST", "IMPORTS", *OF_DATA)
# By folder, a teacher's own metric in percent.
Scores = Mapping[str, float | None]


def teachers(methods: Sequence[str]) -> list[str]:
    """Return the teachers that methods name: a folder each, or as together() has it."""
    return list(dict.fromkeys(folder for method in methods if (folder := setting(method, TEACHER))))


class TeacherScores:
    """Each teacher's score on DATASETS.TEST of the student's config; a known one is not evaluated again.

    One of other classes (DISTILL.TEACHER.CLASSES) has no score there, nor have several together, or the student's own
    average.

    Args:
        folders: of teachers().
        output: the folder of the comparison.
    """

    def __init__(
        self, task: Task, cfg: CfgNode, folders: Sequence[str], output: Path, fingerprints: Fingerprints
    ) -> None:
        self._task, self._output, self._folders = task, output, folders
        self._file = Numbers(output / SCORES, "score", task.grammar.keys())
        node = cfg.DISTILL.TEACHER
        self._scored = not (node.CLASSES or node.MISSING_CLASSES == "leave_out")
        if folders and not self._scored:
            logger.info("teachers of other classes than the student's are not evaluated on its data")
        data = [word for key, value in cfg.DATASETS.items() for word in (f"DATASETS.{key}", str(value))]
        alone = [folder for folder in folders if self._scored and together(folder) == [folder] != [AVERAGE]]
        self._weights = {folder: locate(folder, key=f"--methods: {TEACHER}") for folder in alone}
        self._cfgs = {
            folder: task.load_config(
                weights.config,
                [*own_words(cfg), *data, "OUTPUT_DIR", str(output / "teachers" / folder_name(folder))],
                False,
            )
            for folder, weights in self._weights.items()
        }
        self._settings = {
            folder: fingerprints.of(own, PARTS) | {"weights": fingerprints.of_weights(self._weights[folder].file)}
            for folder, own in self._cfgs.items()
        }

    def refuse_others(self) -> None:
        """Refuse known scores that are of other teachers or data.

        Raises:
            UserError: a score is of another teacher or other data, or has no settings recorded.
        """
        self._file.refuse_others(self._settings)

    def evaluate(self) -> Scores:
        """Evaluate each teacher: its first metric in percent, None where undefined."""
        known = self._file.known(self._settings)
        for folder, own in self._cfgs.items():
            if folder not in known:
                weights = self._weights[folder]
                known[folder] = _first(self._task.evaluate(own, self._task.load_model(own, weights.file, weights.key)))
                self._file.keep({folder: known[folder]}, self._settings)
        return {folder: known.get(folder) for folder in self._folders}


def _first(results: Mapping[str, Any]) -> float | None:
    """Return the first metric of the first data set that has one."""
    for value in results.values():
        if isinstance(value, Mapping):
            if value:
                return _first(value)
        else:
            return None if value is None or math.isnan(value) else float(value)
    return None


def teacher_table(outcomes: Outcomes, of_teachers: Scores) -> str:
    """Return a table of teachers, weak ones first, with their scores and each method's gain with them."""
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
    """Yield each gain by method, without its teacher, and teacher."""
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
