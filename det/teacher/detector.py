"""A frozen detector: a backbone that gives maps, of images or from a cache, and heads that distillation asks."""

import copy
from collections.abc import Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from detectron2.structures import Instances
from torch import Tensor, nn
from torch.nn import functional as F

from densedist.common.distill.classes import ClassMap
from densedist.common.distill.ensemble import same_kept
from densedist.common.distill.teacher import Teacher

M = TypeVar("M", bound=nn.Module)


class DetectorTeacher(Teacher[M]):
    """A frozen detector of Detectron2 whose heads look at the maps of its backbone; which of them, det/taps says.

    Args:
        model, flip_channels, precision: see common/distill/teacher.py.
        classes: how its classes become the student's; None = they are the same.
        scale: its images are that many times larger than the student's.
        stages: of a cascade's class logits, "first" or "mean" (see det/modeling/box_head.py).

    Attributes:
        others: set by averaged(); else empty. The class probabilities of all are averaged.
        heritage: what the student starts from (see det/modeling/inheriting.py); empty once it has.
    """

    model: Any
    others: Sequence["DetectorTeacher[M]"] = ()
    heritage: Mapping[str, Tensor] = MappingProxyType({})

    def __init__(
        self,
        model: M,
        flip_channels: bool = False,
        precision: torch.dtype = torch.float32,
        classes: ClassMap | None = None,
        scale: float = 1.0,
        stages: str = "first",
    ) -> None:
        super().__init__(model, flip_channels, precision)
        self.classes, self.scale, self.stages = classes, scale, stages

    @property
    def models(self) -> list[M]:
        return [self.model, *(other.model for other in self.others)]

    @cached_property
    def passable_head(self) -> Any:
        """The model's head as a student's gradient passes it: of half precision a copy in float32. No scaler of the
        losses is at work there, for small gradients of which float16 has no number and bfloat16 two digits."""
        head = self.model.head
        return copy.deepcopy(head).float() if self.precision in (torch.float16, torch.bfloat16) else head

    def maps(self, inputs: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """The backbone's maps (N, C, h, w) for a batch of samples, by name.

        Args:
            inputs: {"image": raw (3, H, W)} each.
        """
        return self.live_maps([sample["image"] for sample in inputs])

    def live_maps(self, images: Sequence[Tensor]) -> dict[str, Tensor]:
        """The same for raw images (3, H, W), 0 to 255, in the student's channel order."""
        batch = self.model.preprocess_image([{"image": image} for image in self.own_images(images)])
        with self.alone():
            return self.model.backbone(batch.tensor.to(self.precision))

    def own_images(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Images (3, H, W) of the student, in the teacher's channel order and size."""
        ordered = self.own_order(images)
        return ordered if self.scale == 1 else [_resized(image, self.scale) for image in ordered]

    def in_student_classes(self, found: Instances) -> Instances:
        """Of its predictions those of classes that the student knows, by their numbers there."""
        if self.classes is None:
            return found
        numbers = self.classes.numbers
        found = found[torch.tensor([int(c) in numbers for c in found.pred_classes], dtype=torch.bool)]
        known = [numbers[int(c)] for c in found.pred_classes]
        found.pred_classes = found.pred_classes.new_tensor(known)
        return found


def averaged(teachers: Sequence[DetectorTeacher]) -> DetectorTeacher:
    """One teacher of several: the first, with class probabilities that are the mean of all, and nothing else.

    Raises:
        UserError: they know different classes of the student's.
    """
    first, *others = teachers
    same_kept([teacher.classes for teacher in teachers])
    first.others = others
    return first


def _resized(image: Tensor, scale: float) -> Tensor:
    """The scale is taken exactly, so that a box of the one image is found at its multiple in the other."""
    return F.interpolate(image[None].float(), scale_factor=scale, mode="bilinear", antialias=scale < 1)[0]
