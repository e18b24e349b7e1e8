"""Several teachers of one student: their own scores, and what the student gains from each."""

import json
import logging
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from matplotlib.figure import Figure
from tabulate import tabulate

from densedist.common.compare.methods import LABELS, NONE, SCORE_THRESHOLD, TEACHER, folder_name, setting, without
from densedist.common.compare.outcome import Gain, gain
from densedist.common.compare.records import SCORES, Numbers
from densedist.common.compare.report import PERCENT, Outcomes, interval, metric, values
from densedist.common.config import find_config, trust
from densedist.common.errors import UserError
from densedist.common.fingerprint import Fingerprint, Fingerprints, refuse_another
from densedist.common.labeling import RECORD, SCORE, Labeling, check_score
from densedist.common.run_files import Weights, locate
from densedist.common.task import Task

logger = logging.getLogger(__name__)

# Parts of a fingerprint that a teacher's score depends on, apart from its weights.
OF_DATA = ("DATASETS.TEST", "DATASETS.CLASSES", "DATASETS.IGNORED", "DATASETS.LABELS")
PARTS = ("task", "MODEL", "INPUT", "TEST", "IMPORTS", *OF_DATA)
# By folder, a teacher's own metric in percent.
Scores = Mapping[str, float | None]


def own_words(cfg: CfgNode) -> list[str]:
    """Return the overrides that run a teacher's config where the student runs, with the same trust."""
    return ["MODEL.DEVICE", cfg.MODEL.DEVICE, *trust.words(cfg)]


def teachers(methods: Sequence[str]) -> list[str]:
    """Return the folders of the teachers that methods name."""
    return list(dict.fromkeys(folder for method in methods if (folder := setting(method, TEACHER))))


class TeacherScores:
    """Each teacher's score on DATASETS.TEST of the student's config; a known one is not evaluated again.

    One of other classes (DISTILL.TEACHER.CLASSES) has no score there.

    Args:
        folders: the OUTPUT_DIR of each.
        output: the folder of the comparison.
    """

    def __init__(self, task: Task, cfg: CfgNode, folders: Sequence[str], output: Path, found: Fingerprints) -> None:
        self._task, self._output, self._folders = task, output, folders
        self._file = Numbers(output / SCORES, "score")
        node = cfg.DISTILL.TEACHER
        self._scored = not (node.CLASSES or node.MISSING_CLASSES == "leave_out")
        if folders and not self._scored:
            logger.info("teachers of other classes than the student's are not evaluated on its data")
        data = [word for key, value in cfg.DATASETS.items() for word in (f"DATASETS.{key}", str(value))]
        self._weights = {folder: locate(folder, key=f"--methods: {TEACHER}") for folder in folders if self._scored}
        self._cfgs = {
            folder: task.load_config(
                weights.config,
                [*own_words(cfg), *data, "OUTPUT_DIR", str(output / "teachers" / folder_name(folder))],
                False,
            )
            for folder, weights in self._weights.items()
        }
        self._settings = {
            folder: found.of(own, PARTS) | {"weights": found.of_weights(self._weights[folder].file)}
            for folder, own in self._cfgs.items()
        }

    def refuse_others(self) -> None:
        """Refuse known scores that are of other teachers or data.

        Raises:
            UserError: one is not, or does not say.
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


# Parts of a fingerprint that labels depend on, apart from the score; and the keys of the teacher's own config that
# those of DISTILL.TEACHER stand for.
LABEL_PARTS = ("task", "DISTILL.TEACHER", "DATASETS.UNLABELED", "DATASETS.CLASSES", "DATASETS.IGNORED", "IMPORTS")
STANDS_FOR = {
    "FORMAT": "INPUT.FORMAT",
    "PIXEL_MEAN": "MODEL.PIXEL_MEAN",
    "PIXEL_STD": "MODEL.PIXEL_STD",
    "STRIDE": "MODEL.STRIDE",
}


@dataclass(frozen=True)
class TeacherLabels:
    """Labels that a teacher has written.

    Args:
        words: the overrides that train on them, too.
        seconds: time it took to write them.
    """

    words: list[str]
    seconds: float


def labeling_of(task: Task, cfg: CfgNode, method: str, output: Path, found: Fingerprints) -> Labeling:
    """Return the labeling that a method's teacher has to do.

    Args:
        cfg: the method's config, whose DATASETS.UNLABELED are labeled.
        output: folder of all methods; one with its own TEACHER or SCORE_THRESHOLD has its own folder in it.

    Raises:
        UserError: a wrong SCORE_THRESHOLD, or a teacher that is not one with a config.
    """
    node, key = cfg.DISTILL.TEACHER, "DISTILL.TEACHER"
    score = check_score(setting(method, SCORE_THRESHOLD) or SCORE, f"--methods: {method}: {SCORE_THRESHOLD}")
    settings = [f"{name}={value}" for name in (TEACHER, SCORE_THRESHOLD) if (value := setting(method, name))]
    if not node.CONFIG_FILE:
        raise UserError(f"--methods: {method}: {key}.CONFIG_FILE is empty: a teacher that writes labels needs one")
    if node.MORE:
        raise UserError(
            f"--methods: {method}: {key}.MORE: compare lets one teacher write labels; densedist label takes several"
        )
    teacher = Weights(node.WEIGHTS, find_config(node.CONFIG_FILE, f"{key}.CONFIG_FILE"), False, f"{key}.WEIGHTS")
    said = [word for name, own in STANDS_FOR.items() if node.get(name) for word in (own, str(node[name]))]
    if node.get("KIND", "auto") != "auto":
        said += ["MODEL.KIND", node.KIND]
    return Labeling(
        [teacher.under(*own_words(cfg), *said)],
        task.unlabeled_images(cfg),
        output / folder_name("@".join([LABELS, *settings])),
        score,
        student=cfg,
        settings=found.of(cfg, LABEL_PARTS) | {SCORE_THRESHOLD: str(score)},
    )


def refuse_other_labels(labeling: Labeling) -> None:
    """Refuse a folder with labels of other settings.

    Raises:
        UserError: they are of other settings, or do not say.
    """
    if (record := labeling.output / RECORD).is_file():
        then = json.loads(record.read_text()).get("settings")
        refuse_another(str(labeling.output), then, dict(labeling.settings))


def check_labels(task: Task, labeling: Labeling) -> None:
    """Check that labels exist, or can be written; write none.

    Raises:
        UserError: a teacher that does not fit.
    """
    if not (labeling.output / RECORD).is_file():
        task.label(replace(labeling, only_check=True))


def write_labels(task: Task, cfg: CfgNode, labeling: Labeling) -> TeacherLabels:
    """Let a teacher write the labels, unless it has done so before.

    Args:
        cfg: the method's.
    """
    record = labeling.output / RECORD
    if not record.is_file():  # else of an earlier call
        shutil.rmtree(labeling.output, ignore_errors=True)
        task.label(labeling)
    return TeacherLabels(task.with_labels(cfg, labeling.output), json.loads(record.read_text())["seconds"])


def settings_of(labeling: Labeling) -> Fingerprint:
    """Return what training on labels depends on in addition."""
    parts = dict(labeling.settings)
    return parts | {"--unlabeled": parts.pop("DATASETS.UNLABELED")}
