"""The frozen detector: a backbone that gives maps, of images or from a cache, and heads that distillation asks."""

import copy
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from detectron2.structures import Instances
from torch import Tensor, nn
from torch.nn import functional as F

from densedist.common.distill.classes import ClassMap
from densedist.common.distill.ensemble import shared_class_map
from densedist.common.distill.taps import Extent
from densedist.common.distill.teacher import Maps, Pending, Samples, Teacher
from densedist.common.errors import UserError

M = TypeVar("M", bound=nn.Module)


class DetTeacher(Teacher[M]):
    """A frozen detector of Detectron2. Its maps are its backbone's; the groups of det/taps ask its heads.

    Args:
        model, flip_channels, precision, average: see common/distill/teacher.py.
        classes: how its classes become the student's; None = they are the same.
        scale: its images are that many times larger than the student's.
        stages: of a cascade's class logits, "first" or "mean" (see det/modeling/box_head.py).

    Attributes:
        others: the rest of an ensemble, set by averaged(). The class probabilities of all are averaged.
        heritage: tensors that the student starts from (see det/modeling/inheriting.py); empty once it has them.
    """

    model: Any
    others: Sequence["DetTeacher[M]"] = ()
    heritage: Mapping[str, Tensor] = MappingProxyType({})

    def __init__(
        self,
        model: M,
        flip_channels: bool = False,
        precision: torch.dtype = torch.float32,
        classes: ClassMap | None = None,
        scale: float = 1.0,
        stages: str = "first",
        average: nn.Module | None = None,
    ) -> None:
        super().__init__(model, flip_channels, precision, average)
        self.classes, self.scale, self.stages = classes, scale, stages

    @property
    def models(self) -> list[M]:
        return [self.model, *(other.model for other in self.others)]

    @cached_property
    def passable_head(self) -> Any:
        """Return the model's head for a student's gradient to pass: of a model in half precision a copy in float32. No
        scaler of the losses is at work there, and float16 has no number for small gradients, bfloat16 two digits."""
        head = self.model.head
        return copy.deepcopy(head).float() if self.precision in (torch.float16, torch.bfloat16) else head

    def begin(self, samples: Samples) -> "DetPending":
        return DetPending(self, samples)

    def live_maps(self, images: Sequence[Tensor]) -> Maps:
        """Return the backbone's maps of raw images (3, H, W), 0 to 255, in the student's channel order."""
        batch = self.model.preprocess_image([{"image": image} for image in self.prepare_images(images)])
        with self.alone():
            return self.model.backbone(batch.tensor.to(self.precision))

    def prepare_images(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Return images (3, H, W) of the student in the teacher's channel order and size."""
        ordered = self.in_channel_order(images)
        return ordered if self.scale == 1 else [_resized(image, self.scale) for image in ordered]

    def predictions_in_student_classes(self, found: Instances) -> Instances:
        """Return the predictions of classes that the student knows, with the student's class numbers."""
        if self.classes is None:
            return found
        numbers = self.classes.numbers
        found = found[torch.tensor([int(c) in numbers for c in found.pred_classes], dtype=torch.bool)]
        known = [numbers[int(c)] for c in found.pred_classes]
        found.pred_classes = found.pred_classes.new_tensor(known)
        return found


class DetPending(Pending):
    """A batch that a detector is asked about; its maps are its backbone's.

    Attributes:
        others: the same of the rest of an ensemble.
    """

    teacher: DetTeacher

    def __init__(self, teacher: DetTeacher, samples: Samples) -> None:
        super().__init__(teacher, samples)
        self.others = [other.begin(samples) for other in teacher.others]

    def extents(self, strides: Sequence[int]) -> list[list[Extent]]:
        """Return for each stride how many places of a map each image has, the last in part; the rest is padding."""
        sizes = [sample["image"].shape[1:] for sample in self.samples]
        return [[(math.ceil(h / stride), math.ceil(w / stride)) for h, w in sizes] for stride in strides]


def averaged(teachers: Sequence[DetTeacher]) -> DetTeacher:
    """Return an ensemble as one teacher: the first, with the others. It gives mean class probabilities only.

    Raises:
        UserError: they know different classes of the student's, or one gives no maps.
    """
    first, *others = teachers
    if others and any(not hasattr(teacher.model, "backbone") for teacher in teachers):
        raise UserError(
            "DISTILL.TEACHER.MORE: a teacher that gives boxes with class scores alone is not averaged with others: "
            "leave it empty (`densedist label` fuses the boxes of several)"
        )
    shared_class_map([teacher.classes for teacher in teachers])
    first.others = others
    first.average = next((teacher.average for teacher in teachers if teacher.average is not None), None)
    return first


def _resized(image: Tensor, scale: float) -> Tensor:
    """Return an image resized by exactly this scale, so that a box of the one is at its multiple in the other."""
    return F.interpolate(image[None].float(), scale_factor=scale, mode="bilinear", antialias=scale < 1)[0]
