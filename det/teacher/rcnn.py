"""A frozen R-CNN as the teacher of a two-stage student."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.structures import Boxes
from torch import Tensor

from densedist.common.distill.classes import ClassMap
from densedist.common.distill.several import mean_logits
from densedist.common.distill.taps import per_image, subsample
from densedist.det import box_head
from densedist.det.taps import Extent, feature_taps
from densedist.det.teacher.detector import DetectorTeacher

ROI_SAMPLES = 64  # RoIs whose relations are compared: their angles cost the cube of it
LOGITS = ("cls_logits",)


class RCNNTeacher(DetectorTeacher[GeneralizedRCNN]):
    """A frozen R-CNN that classifies boxes that somebody else proposes.

    It runs its backbone and box head only: no RPN, no NMS, no mask head, and of a cascade the later
    stages only where asked for.

    Args:
        model, flip_channels, precision: see common/distill/teacher.py.
        stages: of a cascade, "first" or "mean" (see det/box_head.py).
        classes, scale: see det/teacher/detector.py.
    """

    can_average = True
    others: Sequence["RCNNTeacher"] = ()

    def __init__(
        self,
        model: GeneralizedRCNN,
        flip_channels: bool = False,
        precision: torch.dtype = torch.float32,
        stages: str = "first",
        classes: ClassMap | None = None,
        scale: float = 1.0,
    ) -> None:
        super().__init__(model, flip_channels, precision, classes, scale)
        box_head.check(model.roi_heads)
        self.stages = stages

    def taps(
        self,
        needed: Collection[str],
        images: list[Tensor],
        boxes: list[list[Boxes]],
        levels: Sequence[str] = (),
        extents: Sequence[Extent] | None = None,
    ) -> dict[str, Sequence[Tensor]]:
        """The taps that are needed, of cls_logits, rois and those of det/taps.py.

        Args:
            images: raw images (3, H, W), 0 to 255, in the student's channel order.
            boxes: any number of box lists, each with one Boxes per image, in its pixels; for each, cls_logits
                has logits (see box_head.cls_logits), and rois up to ROI_SAMPLES samples.
            levels, extents: see feature_taps in det/taps.py.
        """
        found = self._taps(self.live_maps(images), needed, boxes, levels, extents)
        return self._with_others(found, lambda other: other.taps(LOGITS, images, boxes))

    def for_batch(
        self,
        needed: Collection[str],
        inputs: Sequence[Mapping[str, Any]],
        boxes: list[list[Boxes]],
        levels: Sequence[str] = (),
        extents: Sequence[Extent] | None = None,
    ) -> dict[str, Sequence[Tensor]]:
        """The taps for a batch of samples, as the student sees them.

        Args:
            inputs: {"image": …} each.
            needed, boxes, levels, extents: see taps.
        """
        found = self._taps(self.maps(inputs), needed, boxes, levels, extents)
        return self._with_others(found, lambda other: other.for_batch(LOGITS, inputs, boxes))

    def _with_others(
        self, found: dict[str, Sequence[Tensor]], of: Callable[["RCNNTeacher"], Mapping[str, Sequence[Tensor]]]
    ) -> dict[str, Sequence[Tensor]]:
        """The taps found, with class logits that are the mean of all teachers."""
        if not self.others or "cls_logits" not in found:
            return found
        each = [found["cls_logits"], *(of(other)["cls_logits"] for other in self.others)]
        activation = box_head.activation(self.model.roi_heads)
        return found | {"cls_logits": [mean_logits(call, activation) for call in zip(*each, strict=True)]}

    def _taps(
        self,
        maps: dict[str, Tensor],
        needed: Collection[str],
        boxes: list[list[Boxes]],
        levels: Sequence[str],
        extents: Sequence[Extent] | None,
    ) -> dict[str, Sequence[Tensor]]:
        heads = self.model.roi_heads
        if self.scale != 1:
            boxes = [[Boxes(of_image.tensor * self.scale) for of_image in call] for call in boxes]
        with self.alone():
            result = dict(feature_taps(needed, maps, levels, extents))
            if "cls_logits" in needed:
                result["cls_logits"] = [self.as_ours(box_head.cls_logits(heads, maps, b, self.stages)) for b in boxes]
            if "rois" in needed:
                result["rois"] = [subsample(per_image(box_head.pooled(heads, maps, b)), ROI_SAMPLES) for b in boxes]
            return result

    def as_ours(self, logits: Tensor) -> Tensor:
        """Class logits (R, K+1), with sigmoids (R, K), of its classes in the student's; what the student does not know
        is background."""
        if self.classes is None:
            return logits
        heads = self.model.roi_heads
        activation = box_head.activation(heads)
        softmax = activation == "softmax"
        classes = self.classes.with_background(heads.num_classes) if softmax else self.classes
        return classes.of_teacher(logits, activation)
