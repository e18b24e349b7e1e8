"""A part of a detector that gives taps: which ones a pair has, and both sides' for a batch."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

from densedist.common.distill.taps import Extent, Inside, Taps, TapSpecs
from densedist.det.teacher.detector import DetectorTeacher

# Why a pair lacks taps.
AVERAGED = "of several teachers only class probabilities are averaged"
SCALED = "with DISTILL.TEACHER.INPUT_SCALE the teacher's anchors would move: set it to 1"


@dataclass(frozen=True)
class Batch:
    """A batch before its teacher.

    Args:
        inputs: samples, "image" of each raw (3, H, W), 0 to 255.
    """

    teacher: DetectorTeacher
    inputs: Sequence[Mapping[str, Any]]

    @cached_property
    def maps(self) -> dict[str, Tensor]:
        """Of the teacher's backbone, by name; it runs once, whoever asks."""
        return self._maps()

    @cached_property
    def _maps(self) -> Callable[[], dict[str, Tensor]]:
        return self.teacher.begin(lambda: self.teacher.maps(self.inputs))

    def extents(self, strides: Sequence[int]) -> list[list[Extent]]:
        """Return for each stride how many places of a map each image has, the last in part; the rest is padding."""
        sizes = [sample["image"].shape[1:] for sample in self.inputs]
        return [[(math.ceil(h / stride), math.ceil(w / stride)) for h, w in sizes] for stride in strides]

    def begin(self) -> None:
        """Let each teacher look that has a stream of its own."""
        for each in self.of_all:
            _ = each._maps

    @cached_property
    def of_all(self) -> list["Batch"]:
        """The batch before each of several teachers, whose class probabilities are averaged; itself first."""
        return [self, *(Batch(other, self.inputs) for other in self.teacher.others)]


class TapGroup(ABC):
    """The taps of one part. Without a state: it may be shared by models."""

    @abstractmethod
    def specs(self, student: Any, teacher: DetectorTeacher) -> tuple[TapSpecs, TapSpecs]:
        """What the student and what the teacher can give; what only one of them has may be among it."""

    def lacking(self, student: Any, teacher: DetectorTeacher) -> dict[str, str]:
        """Why this pair does not have a tap, by its name, for messages."""
        return {}

    @abstractmethod
    def watch(self, student: Any) -> AbstractContextManager[Any]:
        """What the student's part sees and gives within the block, for taps()."""

    @abstractmethod
    def taps(self, needed: Collection[str], student: Any, seen: Any, batch: Batch) -> tuple[Taps, Taps]:
        """The student's taps and the teacher's, of those that are needed.

        Args:
            seen: of watch(), after the block.
        """

    def inside(self, needed: Collection[str], student: Any, seen: Any, batch: Batch) -> Inside:
        """Return which places are no padding, of those of the needed taps that are maps; the arguments as of taps()."""
        return {}

    def targets(self, needed: Collection[str], student: Any, seen: Any, batch: Batch) -> Taps:
        """What labels say of those taps that are needed, as their specs promise; the arguments as of taps()."""
        return {}
