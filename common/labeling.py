"""Labels that teachers write for students to train on: what is asked for, and from which score on they are trusted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from densedist.common.errors import UserError
from densedist.common.run_files import Weights
from densedist.common.score_threshold import SCORE, check_score

RECORD = "labels.json"  # written last: what the labels are of
BINS = 1000  # of scores from 0 to 1


@dataclass(frozen=True)
class Labeling:
    """What is labeled, and by whom.

    Args:
        teachers: one, or several whose predictions are fused.
        overrides: KEY VALUE … for the config of each.
        images: files by name.
        output: a folder that is not there, or empty.
        score: predictions below are left out, in [0, 1]; None = each class has its own, where F1 on DATASETS.TEST of
            the first teacher's config is best.
    """

    teachers: Sequence[Weights]
    overrides: Sequence[str]
    images: Mapping[str, Path]
    output: Path
    score: float | None = SCORE

    def begin(self) -> None:
        """Make the folder.

        Raises:
            UserError: one that has files, among which labels would be lost, or a score out of range.
        """
        if self.score is not None:
            check_score(self.score)
        try:
            self.output.mkdir(parents=True, exist_ok=True)
            if any(self.output.iterdir()):
                raise UserError(f"--output-dir: {self.output} has files: name a folder that is empty or not there")
        except OSError as error:
            raise UserError(f"--output-dir: cannot write to {self.output}: {error.strerror}") from error

    def record(
        self, names: Sequence[str], least: Sequence[float], seconds: float, counts: Sequence[float]
    ) -> dict[str, Any]:
        """What RECORD holds: who labeled what, and of each class from which score on, and how much.

        Args:
            counts: of each class, in the task's own unit.
        """
        classes = zip(names, least, counts, strict=True)
        return {
            "teachers": [teacher.file for teacher in self.teachers],
            "images": len(self.images),
            "seconds": seconds,
            "classes": {
                name: {"score": score if np.isfinite(score) else None, "labels": count}
                for name, score, count in classes
            },
        }


class Trust:
    """How often predictions are right, by class and score.

    Args:
        classes: how many.
    """

    def __init__(self, classes: int) -> None:
        self._made, self._right = (np.zeros((classes, BINS), np.int64) for _ in range(2))
        self._truth = np.zeros(classes, np.int64)

    def add(self, classes: np.ndarray, scores: np.ndarray, right: np.ndarray, truth: np.ndarray) -> None:
        """Predictions on an image, and the classes of what there is to be found.

        Args:
            classes, scores, right: of each prediction, in any shape; scores in [0, 1].
            truth: class numbers.
        """
        places = (
            classes.astype(np.int64).ravel() * BINS + np.minimum((scores * BINS).astype(np.int64), BINS - 1).ravel()
        )
        for counts, chosen in ((self._made, places), (self._right, places[right.ravel()])):
            counts += np.bincount(chosen, minlength=counts.size).reshape(counts.shape)
        self._truth += np.bincount(truth.astype(np.int64).ravel(), minlength=len(self._truth))

    def thresholds(self) -> np.ndarray:
        """For each class the score, in steps of 1 / BINS, from which on F1 is best; infinite if none is ever right."""
        made, right = (counts[:, ::-1].cumsum(1)[:, ::-1] for counts in (self._made, self._right))
        f1 = 2 * right / np.maximum(made + self._truth[:, None], 1)
        # Of equal ones the highest: no prediction lies between them.
        best = BINS - 1 - f1[:, ::-1].argmax(1)
        return np.where(right[:, 0] > 0, best / BINS, np.inf)


def check_same_names(names: Sequence[Sequence[str]]) -> None:
    """
    Args:
        names: of the classes of each teacher.

    Raises:
        UserError: teachers with different classes, which cannot be fused.
    """
    for number, others in enumerate(names[1:], 2):
        if list(others) != list(names[0]):
            raise UserError(
                f"--weights: the classes of teacher {number}, {', '.join(others)}, are not those of the first, "
                f"{', '.join(names[0])}: teachers that are fused need the same in the same order"
            )
