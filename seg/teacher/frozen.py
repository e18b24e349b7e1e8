"""The frozen segmentation teacher: its output for the student's batch."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from densedist.common.distill.classes import ClassMap
from densedist.common.distill.teacher import Teacher
from densedist.seg.dense import DenseModel
from densedist.seg.places import Grid, resize_at
from densedist.seg.teacher.adapting import KEPT_MASS, LOGITS

Maps = dict[str, Tensor]


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

    def for_batch(
        self, samples: Sequence[Mapping[str, Any]], student: Mapping[str, Tensor], size: Sequence[int]
    ) -> tuple[Maps, Maps]:
        """output() for training samples, and for those maps of which not all places count which do, bool (N, h, w)."""
        maps = self._output([sample["image"] for sample in samples], student, size, (*student, *self._mass_of(student)))
        return self._counting(maps, {})

    def output(self, images: Sequence[Tensor], student: Mapping[str, Tensor], size: Sequence[int]) -> Maps:
        """The teacher's output for those parts of it that the student has, at the student's places in the images.

        Args:
            images: raw images (3, H, W), 0 to 255, in the student's channel order.
            student: maps (N, C, h, w) by name, as of seg.dense.DenseModel.
            size: height and width of the student's batch of these images; the teacher may pad its own otherwise.
        """
        return self._output(images, student, size, tuple(student))

    def _output(
        self, images: Sequence[Tensor], student: Mapping[str, Tensor], size: Sequence[int], wanted: Sequence[str]
    ) -> Maps:
        batch = self.model.preprocess(self.own_order(images)).to(self.precision)
        with self.alone():
            output = self.model(batch)
        grid = Grid(batch.shape[2:], self.model.align_corners)
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
