"""The frozen segmentation teacher: its output for the student's batch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from densedist.common.distill.classes import ClassMap
from densedist.common.distill.teacher import Teacher
from densedist.seg.networks.dense import LOGITS, DenseModel
from densedist.seg.networks.places import Grid, resize_at
from densedist.seg.teacher.adapting import KEPT_MASS

Maps = dict[str, Tensor]


# Of the student's maps (N, C, h, w) by name, and height and width of its batch: the teacher's maps at the student's
# places, and for those maps of which not all places count which do, bool (N, h, w).
Look = Callable[[Mapping[str, Tensor], Sequence[int]], tuple[Maps, Maps]]


@dataclass(frozen=True)
class Seen:
    """What a teacher gives for a batch: how its maps, which are there when they are called for, lie on its images."""

    grid: Grid
    maps: Callable[[], Maps]


class SegTeacher(Teacher[DenseModel]):
    """A frozen network.

    Args:
        model, flip_channels, precision: see common/distill/teacher.py.
        classes: where the model tells its own classes in the student's: which of these it knows.
        kept_mass: a pixel counts where these have at least this much of the model's probability.
    """

    def __init__(
        self,
        model: DenseModel,
        flip_channels: bool = False,
        precision: torch.dtype = torch.float32,
        classes: ClassMap | None = None,
        kept_mass: float = 0.0,
    ) -> None:
        super().__init__(model, flip_channels, precision)
        self.classes, self.kept_mass = classes, kept_mass

    def look(self, samples: Sequence[Mapping[str, Any]]) -> Look:
        """At training samples, before the student does; what is seen is told when the student's maps are there."""
        seen = self._see([sample["image"] for sample in samples])

        def told(student: Mapping[str, Tensor], size: Sequence[int]) -> tuple[Maps, Maps]:
            return self._counting(self._placed(seen, student, size, (*student, *self._mass_of(student))), {})

        return told

    def output(self, images: Sequence[Tensor], student: Mapping[str, Tensor], size: Sequence[int]) -> Maps:
        """The teacher's output for those parts of it that the student has, at the student's places in the images.

        Args:
            images: raw images (3, H, W), 0 to 255, in the student's channel order.
            student: maps (N, C, h, w) by name, as of seg.dense.DenseModel.
            size: height and width of the student's batch of these images; the teacher may pad its own otherwise.
        """
        return self._placed(self._see(images), student, size, tuple(student))

    def _see(self, images: Sequence[Tensor]) -> Seen:
        batch = self.model.preprocess(self.own_order(images)).to(self.precision)

        def run() -> Maps:
            with self.alone():
                return self.model(batch)

        return Seen(Grid(batch.shape[2:], self.model.align_corners), self.begin(run))

    def _placed(self, seen: Seen, student: Mapping[str, Tensor], size: Sequence[int], wanted: Sequence[str]) -> Maps:
        """The maps that are wanted, at the student's places."""
        output, grid = seen.maps(), seen.grid
        return {
            name: resize_at(output[name], _like(student, name).shape[2:], grid, size)
            for name in wanted
            if name in output
        }

    def _mass_of(self, student: Mapping[str, Tensor]) -> tuple[str, ...]:
        return (KEPT_MASS,) if self.kept_mass > 0 and "cls_logits" in student else ()

    def _counting(self, maps: Maps, seen: Maps) -> tuple[Maps, Maps]:
        """The maps without the mass, and what counts by it, too."""
        mass = maps.pop(KEPT_MASS, None)
        if mass is None:
            return maps, seen
        enough = mass[:, 0] >= self.kept_mass
        for name in LOGITS:
            if name in maps and maps[name].shape[2:] == enough.shape[1:]:
                seen[name] = enough & seen[name] if name in seen else enough
        return maps, seen


def _like(student: Mapping[str, Tensor], name: str) -> Tensor:
    """The student's map on whose grid the teacher's of that name is wanted."""
    return student["cls_logits" if name == KEPT_MASS else name]
