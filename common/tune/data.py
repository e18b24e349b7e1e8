"""The data that a search chooses by: never training data, nor the final report's."""

import logging
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from detectron2.config import CfgNode

from densedist.common.compare.checks import check_scores
from densedist.common.data.overlap import overlaps, shared_images
from densedist.common.data.sides import LABELED
from densedist.common.errors import UserError
from densedist.common.task import Task

logger = logging.getLogger(__name__)
TEST = re.compile(r"(?<![a-z])test(?![a-z])", re.IGNORECASE)  # the word in a name


@dataclass(frozen=True)
class Validation:
    """The data that choices are scored on.

    Args:
        names: data sets or splits; empty = a share of DATASETS.TRAIN, which is left out of training.
        share: between 0 and 1.
    """

    names: Sequence[str] = ()
    share: float = 0.2

    def check(self, cfg: CfgNode) -> None:
        """Refuse a share out of range, and data that are those of training or of the final report.

        Raises:
            UserError: data of the final report, or of training; a share that is none.
        """
        if not self.names and not 0 < self.share < 1:
            raise UserError(f"--set-aside is {self.share:g}: want a share between 0 and 1, e.g. 0.2")
        for name in self.names:
            if TEST.search(name):
                raise UserError(f"--val: {name} is test data, which is for the report at the end: name other data")
            if name in cfg.DATASETS.TRAIN:
                raise UserError(f"--val: {name} is in DATASETS.TRAIN too: name data that training does not see")

    def overrides(self, task: Task, cfg: CfgNode, load: Callable[[Sequence[str]], CfgNode]) -> list[str]:
        """Return the overrides of DATASETS.TRAIN and TEST for the runs.

        Args:
            cfg: the student's.
            load: gives the student's config with overrides.

        Raises:
            UserError: data without labels, or with images that training sees.
        """
        option = "--val" if self.names else "--set-aside"
        named = ["DATASETS.TEST", str(list(self.names))]
        words = named if self.names else task.set_aside(cfg, self.share)
        scored = load(words)
        check_scores(task, scored, option)
        tested = _places(task.images(scored, "TEST"))
        if both := tested & _places(file for side in LABELED for file in task.images(scored, side)):
            remedy = "name other data" if self.names else "DATASETS.TRAIN has them twice; name data by --val"
            raise UserError(f"{option}: training sees {len(both)} of its images, first {min(both)}: {remedy}")
        for line in filter(None, [self.note(cfg), *self.shared(task, cfg, scored)]):
            logger.warning(line)
        return words

    def refuse_labeled(self, task: Task, scored: CfgNode, files: Iterable[Path]) -> None:
        """Refuse to choose on images that a teacher labels for training.

        Args:
            scored: a run's config.
            files: what the teacher labels.

        Raises:
            UserError: there are such images.
        """
        if both := _places(task.images(scored, "TEST")) & _places(files):
            option = "--val" if self.names else "--set-aside"
            raise UserError(
                f"{option}: {len(both)} of its images, first {min(both)}, are among --unlabeled, and their labels are "
                "trained on: name other data by --val, or fewer by --unlabeled"
            )

    def note(self, cfg: CfgNode) -> str:
        """Return a warning if the search chooses on the data that it reports; else ""."""
        if shared := [name for name in self.names if name in cfg.DATASETS.TEST]:
            return (
                f"{', '.join(shared)} is DATASETS.TEST, too: figures on it are no longer a fair report of the student"
            )
        return ""

    def shared(self, task: Task, cfg: CfgNode, scored: CfgNode) -> list[str]:
        """Return what the images that are chosen on have in common, by content, with those of training and the report.

        Args:
            cfg: the student's.
            scored: a run's config, whose DATASETS.TEST is what is chosen on.
        """
        lines = overlaps(scored, task.images)
        chosen_on = task.images(scored, "TEST")
        if not self.note(cfg) and (both := shared_images(chosen_on, task.images(cfg, "TEST"))):
            lines.append(
                f"{len(both)} of the {len(chosen_on)} images that are chosen on are in DATASETS.TEST, first {both[0]}: "
                "figures on it are no longer a fair report of the student"
            )
        return lines

    def in_words(self) -> str:
        """Return what was chosen on, in words."""
        return ", ".join(self.names) if self.names else f"the last {self.share:g} of DATASETS.TRAIN, set aside"


def _places(files: Iterable[str | Path]) -> set[str]:
    # A split of labels that a teacher wrote has links to its images.
    return set(map(os.path.realpath, files))
