"""The frozen RetinaNet teacher: from its own config and weights to taps for the student's images."""

from collections.abc import Collection, Sequence

from detectron2.config import CfgNode
from detectron2.modeling.meta_arch import RetinaNet
from torch import Tensor

from common.teacher import Teacher, precision
from det.feature_taps import feature_taps
from det.teacher_model import load_model


class RetinaNetTeacher(Teacher[RetinaNet]):
    """A frozen RetinaNet that classifies all its anchors; box regression and NMS do not run."""

    def taps(
        self, needed: Collection[str], images: list[Tensor], levels: list[str]
    ) -> tuple[list[Tensor], dict[str, Sequence[Tensor]]]:
        """Class logits (N, anchors x classes, H, W) of each level, and the taps of det/feature_taps.py needed.

        The logits are left out (an empty list) where neither cls_logits nor logit_maps is needed.

        Args:
            images: raw images (3, H, W), 0 to 255, in the student's channel order.
            levels: the backbone's maps to take.
        """
        batch = self.model.preprocess_image([{"image": image} for image in self.own_order(images)])
        with self.alone():
            features = self.model.backbone(batch.tensor.to(self.precision))
            maps = []
            if {"cls_logits", "logit_maps"} & set(needed):
                head = self.model.head
                maps = [head.cls_score(head.cls_subnet(features[level])) for level in self.model.head_in_features]
            return maps, feature_taps(needed, features, levels)


def load_teacher(student_cfg: CfgNode) -> RetinaNetTeacher:
    """The teacher that DISTILL.TEACHER of the student's config names, on the student's device.

    Raises:
        UserError: a missing config or weights, weights that do not fit, classes other than the student's, a
            teacher of another kind, or an unknown precision.
    """
    return RetinaNetTeacher(*load_model(student_cfg, RetinaNet), precision(student_cfg))
