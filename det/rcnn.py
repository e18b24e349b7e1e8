"""Two-stage students: any GeneralizedRCNN config, distilled on the RoIs that the student samples."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.structures import Boxes
from torch import Tensor

from densedist.common.distill.distiller import Distiller, build_distiller, is_on
from densedist.common.distill.taps import per_image, thin_out
from densedist.common.distill.taps import record
from densedist.det import box_head
from densedist.det.taps import Levels, feature_taps, offer, shared_levels
from densedist.det.rcnn import ROI_SAMPLES, RCNNTeacher, load_teacher
from densedist.det.distilling import learn_and_imitate


@META_ARCH_REGISTRY.register()
class DistillRCNN(GeneralizedRCNN):
    """GeneralizedRCNN whose training losses include distillation from a frozen R-CNN teacher.

    Taps, in training: cls_logits [R, K+1] of every call of the student's box predictor (one for Faster and
    Mask R-CNN, one per stage for Cascade), and the teacher's on the same boxes; rois, the means of the pooled
    features of up to ROI_SAMPLES of these boxes; and those of det/feature_taps.py. Images without "instances"
    are only distilled, on the student's best proposals; their losses end in _unlabeled. In evaluation, and in
    training without a teacher, it is the plain GeneralizedRCNN; its state_dict() always is.
    """

    @configurable
    def __init__(
        self,
        *,
        teacher: RCNNTeacher | None = None,
        distiller: Distiller | None = None,
        levels: Levels | None = None,
        **student,
    ) -> None:
        """
        Args:
            teacher, distiller: both or none.
            levels: the maps that student and teacher share.
            student: the arguments of GeneralizedRCNN.
        """
        super().__init__(**student)
        self.teacher, self.distiller, self.levels = teacher, distiller, levels or []
        if teacher is not None:
            box_head.check(self.roi_heads)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        student = super().from_config(cfg)
        if not is_on(cfg.DISTILL):
            return student
        teacher = load_teacher(cfg)
        box_head.check(student["roi_heads"])
        levels = shared_levels(student["backbone"], teacher.model.backbone)
        boxes: dict[str, Sequence[int]] = {"cls_logits": [], "rois": []}
        ours = boxes | offer(student["backbone"], [name for name, _ in levels])
        theirs = boxes | offer(teacher.model.backbone, [name for _, name in levels])
        distiller = build_distiller(cfg, ours, theirs, activation="softmax")
        return student | {"distiller": distiller, "teacher": teacher, "levels": levels}

    def forward(self, batched_inputs: list[dict]) -> Any:
        if self.teacher is None or self.distiller is None or not self.training:
            return super().forward(batched_inputs)
        return learn_and_imitate(batched_inputs, self._learn, self._imitate)

    def _learn(self, inputs: list[dict]) -> dict[str, Tensor]:
        """The losses of labelled images, with distillation on the RoIs that are sampled for them."""
        with ExitStack() as stack:
            features = stack.enter_context(record(self.backbone, lambda _, output: output))
            regions = stack.enter_context(record(box_head.pooler(self.roi_heads), lambda args, out: (args[1], out)))
            logits = [
                stack.enter_context(record(predictor, lambda _, output: output[0]))
                for predictor in box_head.predictors(self.roi_heads)
            ]
            losses = super().forward(inputs)
        boxes, pooled = [b for b, _ in regions], [p for _, p in regions]
        return losses | self._distil(inputs, features[0], boxes, pooled, [call for calls in logits for call in calls])

    def _imitate(self, inputs: list[dict]) -> dict[str, Tensor]:
        """Distillation alone, on as many of the student's best proposals as RoIs are sampled with labels."""
        assert self.distiller is not None
        images = self.preprocess_image(inputs)
        features = self.backbone(images.tensor)
        # Without labels there is nothing for it to learn; in training it would ask for them.
        self.proposal_generator.eval()
        with torch.no_grad():
            proposals, _ = self.proposal_generator(images, features)
        self.proposal_generator.train()
        boxes = [p.proposal_boxes[: self.roi_heads.batch_size_per_image] for p in proposals]
        pooled = [box_head.pooled(self.roi_heads, features, boxes)] if "rois" in self.distiller.taps else []
        logits = box_head.cls_logits(self.roi_heads, features, boxes, "first")
        return self._distil(inputs, features, [boxes], pooled, [logits])

    def _distil(
        self,
        inputs: list[dict],
        features: dict[str, Tensor],
        boxes: list[list[Boxes]],
        pooled: list[Tensor],
        logits: list[Tensor],
    ) -> dict[str, Tensor]:
        assert self.teacher is not None
        assert self.distiller is not None
        needed = self.distiller.taps
        student = feature_taps(needed, features, [ours for ours, _ in self.levels]) | {"cls_logits": logits}
        if "rois" in needed:
            student["rois"] = [thin_out(per_image(regions), ROI_SAMPLES) for regions in pooled]
        images = [x["image"] for x in inputs]
        teacher = self.teacher.taps(needed, images, boxes, [theirs for _, theirs in self.levels])
        return self.distiller(student, teacher)


#### MERGED FROM det.rcnn_teacher
"""The frozen two-stage teacher: from its own config and weights to taps on given boxes."""

from collections.abc import Collection, Sequence

import torch
from detectron2.config import CfgNode
from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.structures import Boxes
from torch import Tensor

from densedist.common.errors import UserError
from densedist.common.distill.taps import per_image, thin_out
from densedist.common.distill.teacher import Teacher, precision
from densedist.det import box_head
from densedist.det.taps import feature_taps
from densedist.det.models import load_model

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
