"""Labels that teachers write for students to train on: what is labeled, and from which score on it counts."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode

from densedist.common.distill.classes import asked_names, read_class_map
from densedist.common.errors import UserError
from densedist.common.locks import refuse_files
from densedist.common.run_files import Weights

logger = logging.getLogger(__name__)
SCORE = 0.5
RECORD = "labels.json"  # written last: what the labels are of
SHARD = 256  # images that are written at a time
UNREADABLE = 0.01  # share of the images that may be unreadable
BINS = 1000  # of scores from 0 to 1
SHOWN = 10  # names in a message; all are in RECORD
# How the score of each class is chosen, from which on its predictions are labels: where F1 is best, or the least one of
# a precision, on DATASETS.TEST of the first teacher's config; or so that classes are as frequent as in the true labels.
F1, FREQUENCIES, PRECISION = "f1", "frequencies", "precision:"
WAYS = (F1, FREQUENCIES, f"{PRECISION}P")


@dataclass(frozen=True)
class Labeling:
    """A labeling: the images, and the teachers that label them.

    Args:
        teachers: one, or several whose predictions are fused.
        images: files by name.
        output: a folder that is not there, or empty.
        score: predictions below are left out, in [0, 1]; None = each class has its own, chosen by `choose`.
        choose: one of WAYS (see read_way).
        ignore: of detectors: predictions from this score up to the other one are written as crowds, which are neither
            objects nor background in training; None = they are left out.
        box_variance: of R-CNNs: write of each box by how much it moves when it is jittered (det/inference/jitter.py).
        student: the config of a student whose classes, by their names, the labels have; None = they are the teacher's.
        settings: what they depend on, which is written down with them.
        resume: go on with the labeling that was begun in output, if there is one.
        batch: images of one size that a teacher sees at a time, at most.
        most_unreadable: the share of the images, in [0, 1], that may be unreadable.
        shard: images that are written at a time.
        sheet: also write a page for a human to look at (common/labels/sheet.py).
        only_check: look whether they can be written, and write nothing.
    """

    teachers: Sequence[Weights]
    images: Mapping[str, Path]
    output: Path
    score: float | None = SCORE
    choose: str = F1
    ignore: float | None = None
    box_variance: bool = False
    student: CfgNode | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    resume: bool = False
    batch: int = 1
    most_unreadable: float = UNREADABLE
    shard: int = SHARD
    sheet: bool = False
    only_check: bool = False

    def __post_init__(self) -> None:
        """
        Raises:
            UserError: a score, share or batch out of range, or a way of choosing that is none.
        """
        if self.batch < 1:
            raise UserError(f"--batch is {self.batch}: want 1 or more")
        check_score(self.most_unreadable, "--max-unreadable")
        if self.score is None:
            read_way(self.choose)
        else:
            check_score(self.score)
        if self.ignore is None:
            return
        check_score(self.ignore, "--ignore-threshold")
        if self.score is not None and self.ignore >= self.score:
            raise UserError(
                f"--ignore-threshold is {self.ignore:g}, but predictions are labels from --score-threshold "
                f"{self.score:g} on: want less"
            )

    def begin(self) -> None:
        """Make the folder.

        Raises:
            UserError: one that has files, among which labels would be lost.
        """
        try:
            self.output.mkdir(parents=True, exist_ok=True)
            refuse_files(self.output, "--output-dir")
        except OSError as error:
            raise UserError(f"--output-dir: cannot write to {self.output}: {error.strerror}") from error

    def record(
        self,
        names: Sequence[str],
        least: Sequence[float],
        seconds: float,
        counts: Sequence[float],
        labeled: int,
        highest: float | None,
        unreadable: Sequence[Sequence[str]] = (),
    ) -> dict[str, Any]:
        """Return the content of RECORD: who labeled what, and for each class from which score on, and how much.

        Args:
            counts: number for each class, in the task's own unit.
            labeled: how many images have labels.
            highest: of all scores, those below the thresholds included; None = nothing was predicted.
            unreadable: [file, reason] of each image that has no labels.
        """
        classes = zip(names, least, counts, strict=True)
        return {
            "teachers": [teacher.file for teacher in self.teachers],
            **({"settings": dict(self.settings)} if self.settings else {}),
            **({"chosen_by": self.choose} if self.score is None else {}),
            **({"ignored_from": self.ignore} if self.ignore is not None else {}),
            "images": len(self.images) - len(unreadable),
            "labeled_images": labeled,
            "highest_score": highest,
            **({"unreadable": [list(pair) for pair in unreadable]} if unreadable else {}),
            "seconds": seconds,
            "classes": {
                name: {"score": score if np.isfinite(score) else None, "labels": count}
                for name, score, count in classes
            },
        }


def numbers_of_student(labeling: Labeling, ours: Sequence[str], theirs: Sequence[str]) -> np.ndarray:
    """Return, for each of the teachers' classes, its number in labels: by its name, or as the student's
    DISTILL.TEACHER.CLASSES says; -1 where the student does not have it.

    Args:
        ours: the names of the classes of the labels.
        theirs: the teachers' classes.

    Raises:
        UserError: a class of the student that the teachers do not have.
    """
    if labeling.student is None:
        return np.arange(len(theirs))
    node = labeling.student.DISTILL.TEACHER
    found = read_class_map(node.CLASSES, ours, theirs, node.MISSING_CLASSES == "leave_out")
    numbers = np.full(len(theirs), -1)
    for number, group in zip(found.kept, found.groups, strict=True):
        numbers[list(group)] = number
    if rest := [name for name, number in zip(theirs, numbers, strict=True) if number < 0]:
        shown = ", ".join(rest[:SHOWN]) + (f" and {len(rest) - SHOWN} more" if len(rest) > SHOWN else "")
        logger.warning(f"the teacher's {shown} is not labeled: the student has no such class")
    return numbers


def asked_of(student: CfgNode | None, ours: Sequence[str]) -> list[str]:
    """Return the teachers' classes that labels are made of, as the student's DISTILL.TEACHER.CLASSES says; empty where
    they are the teachers' own.

    Args:
        ours: the names of the classes of the labels.
    """
    return [] if student is None else asked_names(student.DISTILL.TEACHER.CLASSES, ours)


def about_classes(ours: Sequence[str], theirs: Sequence[str], numbers: np.ndarray) -> dict[str, Any]:
    """Return the part of RECORD on what became of the teachers' classes; empty where labels have the same.

    Args:
        ours, theirs: the names of the classes of the labels, and of the teachers.
        numbers: of numbers_of_student.
    """
    if list(ours) == list(theirs):
        return {}
    made_of = {
        name: [other for other, at in zip(theirs, numbers, strict=True) if at == number]
        for number, name in enumerate(ours)
    }
    left_out = [name for name, number in zip(theirs, numbers, strict=True) if number < 0]
    return {"made_of": made_of, "left_out": left_out}


def check_same_names(names: Sequence[Sequence[str]]) -> None:
    """Refuse teachers of different classes.

    Args:
        names: names of the classes of each teacher.

    Raises:
        UserError: teachers with different classes, which cannot be fused.
    """
    for number, others in enumerate(names[1:], 2):
        if list(others) != list(names[0]):
            raise UserError(
                f"--weights: the classes of teacher {number}, {', '.join(others)}, are not those of the first, "
                f"{', '.join(names[0])}: fused teachers need the same classes in the same order"
            )


def check_score(score: float | str, name: str = "--score-threshold") -> float:
    """Return the score as a number.

    Args:
        name: what gave it, for the message.

    Raises:
        UserError: it is none from 0 to 1.
    """
    try:
        number = float(score)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise UserError(f"{name} is {score}: want a number from 0 to 1")
    return number


def read_way(way: str, name: str = "--choose-by") -> float | None:
    """Return the precision that a way of choosing scores asks for; None if it asks for none.

    Raises:
        UserError: it is none of WAYS.
    """
    if way in (F1, FREQUENCIES):
        return None
    try:
        precision = float(way.removeprefix(PRECISION)) if way.startswith(PRECISION) else -1.0
    except ValueError:
        precision = -1.0
    if not 0 < precision <= 1:
        raise UserError(f"{name} is {way}: want {F1}, {FREQUENCIES} or {PRECISION}P, with P above 0, 1 at most")
    return precision


def option_of(way: str) -> str:
    """Return the option that gives a way of choosing scores, for messages."""
    return "--choose-thresholds" if way == F1 else f"--choose-by {way}"


def warn_of_bare(names: Sequence[str], least: np.ndarray, way: str) -> None:
    """Warn of classes without a single label, whatever the teacher sees."""
    if bare := [name for name, score in zip(names, least, strict=True) if not np.isfinite(score)]:
        why = {
            F1: "DATASETS.TEST has none, or none that the teacher finds",
            FREQUENCIES: "DATASETS.TRAIN has none, or the teacher finds none",
        }
        logger.warning(
            f"{option_of(way)}: no label of {', '.join(bare)} will be written: "
            f"{why.get(way, 'on DATASETS.TEST no score has this precision')}; name data that has them, or give one "
            "--score-threshold for all"
        )


class Calibration:
    """How often predictions are right, by class and score.

    Args:
        classes: how many.
    """

    def __init__(self, classes: int) -> None:
        self._made, self._right = (np.zeros((classes, BINS), np.int64) for _ in range(2))
        self._truth = np.zeros(classes, np.int64)

    def add(self, classes: np.ndarray, scores: np.ndarray, right: np.ndarray, truth: np.ndarray) -> None:
        """Add the predictions on an image, and the classes of its true objects.

        Args:
            classes, scores, right: one element for each prediction, in any shape; scores in [0, 1].
            truth: class numbers.
        """
        places = (
            classes.astype(np.int64).ravel() * BINS + np.minimum((scores * BINS).astype(np.int64), BINS - 1).ravel()
        )
        for counts, chosen in ((self._made, places), (self._right, places[right.ravel()])):
            counts += np.bincount(chosen, minlength=counts.size).reshape(counts.shape)
        self._truth += np.bincount(truth.astype(np.int64).ravel(), minlength=len(self._truth))

    def thresholds(self, precision: float | None = None) -> np.ndarray:
        """Return, for each class, the score in steps of 1 / BINS from which on F1 is best; infinite if none is ever
        right.

        Args:
            precision: return the least score from which on so large a share is right; infinite if there is none.
        """
        made, right = self._from_on(self._made), self._from_on(self._right)
        if precision is not None:
            enough = (right >= precision * made) & (right > 0)
            return np.where(enough.any(1), enough.argmax(1) / BINS, np.inf)
        f1 = 2 * right / np.maximum(made + self._truth[:, None], 1)
        # Of equal ones the highest: no prediction lies between them.
        best = BINS - 1 - f1[:, ::-1].argmax(1)
        return np.where(right[:, 0] > 0, best / BINS, np.inf)

    def thresholds_of_counts(self, wanted: np.ndarray) -> np.ndarray:
        """Return, for each class, the score in steps of 1 / BINS from which on the number of predictions is nearest to
        a wanted one (K,), as a class with fewer predictions has all of them; infinite where none is wanted or made."""
        made = self._from_on(self._made)
        best = np.abs(made - wanted[:, None]).argmin(1)
        return np.where((wanted > 0) & (made[:, 0] > 0), best / BINS, np.inf)

    @staticmethod
    def _from_on(counts: np.ndarray) -> np.ndarray:
        return counts[:, ::-1].cumsum(1)[:, ::-1]
