"""The contract of a detector's part that gives taps: which ones a pair of models has, and their tensors for a batch."""

from abc import ABC, abstractmethod
from collections.abc import Collection
from contextlib import AbstractContextManager
from typing import Any

from densedist.common.distill.taps import Taps, TapSpecs
from densedist.det.teacher.teacher import DetPending, DetTeacher

# Why a pair lacks taps.
AVERAGED = "of several teachers only class probabilities are averaged"
SCALED = "with DISTILL.TEACHER.INPUT_SCALE the teacher's anchors would move: set it to 1"


class TapGroup(ABC):
    """The taps of one part of a detector. It keeps nothing of a batch."""

    @abstractmethod
    def specs(self, student: Any, teacher: DetTeacher) -> tuple[TapSpecs, TapSpecs]:
        """Return what the student can give and what the teacher can give; a tap of the pair is one of both."""

    def lacking(self, student: Any, teacher: DetTeacher) -> dict[str, str]:
        """Return, by the name of a tap that this pair does not have, why, for messages."""
        return {}

    @abstractmethod
    def record(self, student: Any) -> AbstractContextManager[Any]:
        """Record, within the block, what the student's part computes, for taps()."""

    @abstractmethod
    def taps(self, needed: Collection[str], student: Any, recorded: Any, pending: DetPending) -> Taps:
        """Return the taps for a batch, those that are needed at least.

        Args:
            recorded: of record(), after the block.
            pending: of the teacher, for the same batch.
        """
