"""The frozen two-stage teacher: from its own config and weights to taps on given boxes."""

from collections.abc import Collection, Sequence

import torch
from detectron2.config import CfgNode
from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.structures import Boxes
from torch import Tensor

from common.errors import UserError
from common.pooling import per_image, thin_out
from common.teacher import Teacher, precision
from det import box_head
from det.feature_taps import feature_taps
from det.teacher_model import load_model

ROI_SAMPLES = 64  # RoIs whose relations are compared: their angles cost the cube of it


class RCNNTeacher(Teacher[GeneralizedRCNN]):
    """A frozen R-CNN that classifies boxes which somebody else proposes.

    It runs its backbone and box head only: no RPN, no NMS, no mask head, and of a cascade the later
    stages only where asked for.

    Args:
        model, flip_channels, precision: see common/teacher.py.
        stages: of a cascade, "first" or "mean" (see det/box_head.py).
    """

    def __init__(
        self,
        model: GeneralizedRCNN,
        flip_channels: bool = False,
        precision: torch.dtype = torch.float32,
        stages: str = "first",
    ) -> None:
        super().__init__(model, flip_channels, precision)
        box_head.check(model.roi_heads)
        self.stages = stages

    def taps(
        self, needed: Collection[str], images: list[Tensor], boxes: list[list[Boxes]], levels: list[str]
    ) -> dict[str, Sequence[Tensor]]:
        """The taps that are needed, of cls_logits, rois and those of det/feature_taps.py.

        Args:
            images: raw images (3, H, W), 0 to 255, in the student's channel order.
            boxes: any number of box lists, each with one Boxes per image, in its pixels; for each, cls_logits
                has logits (R, K+1), background last, and rois up to ROI_SAMPLES samples.
            levels: the backbone's maps to take.
        """
        batch = self.model.preprocess_image([{"image": image} for image in self.own_order(images)])
        with self.alone():
            features, heads = self.model.backbone(batch.tensor.to(self.precision)), self.model.roi_heads
            result = dict(feature_taps(needed, features, levels))
            if "cls_logits" in needed:
                result["cls_logits"] = [box_head.cls_logits(heads, features, b, self.stages) for b in boxes]
            if "rois" in needed:
                result["rois"] = [thin_out(per_image(box_head.pooled(heads, features, b)), ROI_SAMPLES) for b in boxes]
            return result


def load_teacher(student_cfg: CfgNode) -> RCNNTeacher:
    """The teacher that DISTILL.TEACHER of the student's config names, on the student's device.

    Raises:
        UserError: a missing config or weights, weights that do not fit, classes other than the student's, a
            teacher of another kind, or an unknown precision.
    """
    stages = student_cfg.DISTILL.TEACHER.CASCADE_STAGES
    if stages not in ("first", "mean"):
        raise UserError(f"DISTILL.TEACHER.CASCADE_STAGES is {stages}: want first or mean")
    return RCNNTeacher(*load_model(student_cfg, GeneralizedRCNN), precision(student_cfg), stages)
