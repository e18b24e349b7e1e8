"""Two-stage students: any GeneralizedRCNN config, distilled on the RoIs that the student samples."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.modeling.poolers import ROIPooler
from torch import Tensor, nn

from densedist.common.errors import UserError
from densedist.common.losses.checks import Activation, widen
from densedist.common.modules import eval_mode
from densedist.det import teacher_loading
from densedist.det.distilling import Distilling
from densedist.det.modeling import box_head
from densedist.det.taps.features import Features
from densedist.det.taps.found import FoundRoIs
from densedist.det.taps.group import TapGroup
from densedist.det.taps.masks import Masks, has_masks, mask_logits
from densedist.det.taps.proposals import Proposals
from densedist.det.taps.rois import RoIs, live_class_logits
from densedist.det.teacher.foreign import ForeignTeacher
from densedist.det.teacher.objects import ObjectsTeacher
from densedist.det.teacher.teacher import DetTeacher


def _in_float32(_: nn.Module, args: tuple[list[Tensor], Any]) -> tuple[list[Tensor], Any]:
    """Return a pooler's arguments with the maps widened: boxes get their precision, and half of it moves them by
    pixels.

    Under autocast what comes after the pooler takes its own precision from float32, too.
    """
    features, boxes = args
    return [widen(x) for x in features], boxes


@META_ARCH_REGISTRY.register()
class DistillRCNN(Distilling, GeneralizedRCNN):
    """GeneralizedRCNN whose training losses include distillation from a frozen detector.

    Its taps are those of Features, RoIs, Proposals and Masks in det/taps, of a teacher of boxes alone those of
    FoundRoIs. Images without labels are distilled on as many of the student's best proposals as RoIs are sampled with
    labels, their masks on as many as may be objects.
    """

    proposal_generator: Any
    roi_heads: Any
    preprocess_image: Any

    stock = GeneralizedRCNN
    classes_key = "MODEL.ROI_HEADS.NUM_CLASSES"
    row = "RoIs"
    load_teacher = staticmethod(partial(teacher_loading.load_teacher, of_boxes=True))

    def learn_from(self, teacher: DetTeacher) -> None:
        super().learn_from(teacher)
        for module in self.modules():
            if isinstance(module, ROIPooler):  # the teacher pools in float32, too
                module.register_forward_pre_hook(_in_float32)

    def check_pair(self, teacher: DetTeacher) -> None:
        box_head.check(self.roi_heads)
        heads = [model.roi_heads for model in teacher.models if isinstance(model, GeneralizedRCNN)]
        for each in heads:
            box_head.check(each)
        kinds = [box_head.activation(each) for each in heads]
        if len(set(kinds)) > 1:
            raise UserError(
                f"DISTILL.TEACHER.MORE: the teachers' class heads are {', '.join(kinds)}: want all of one kind"
            )

    def tap_groups(self, teacher: DetTeacher) -> Sequence[TapGroup]:
        if isinstance(teacher, ForeignTeacher):
            return (FoundRoIs(),)
        return Features(), FoundRoIs() if isinstance(teacher, ObjectsTeacher) else RoIs(), Proposals(), Masks()

    @staticmethod
    def class_columns(model: Any) -> tuple[Activation, tuple[str, ...]]:
        """Return the same as Distilling. Heads of sigmoids (MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE) have no background."""
        activation = box_head.activation(model.roi_heads)
        return activation, () if activation == "sigmoid" else ("background",)

    def run_without_labels(self, inputs: list[dict]) -> None:
        assert self.distillation is not None
        needed, heads = self.distillation.distiller.needed, self.roi_heads
        images = self.preprocess_image(inputs)
        features = self.backbone(images.tensor)
        # Without labels there is no loss of its own; in training it would ask for them.
        with eval_mode(self.proposal_generator), torch.set_grad_enabled("proposals" in needed):
            proposals, _ = self.proposal_generator(images, features)
        boxes = [p.proposal_boxes[: heads.batch_size_per_image] for p in proposals]
        box_head.cls_logits(heads, features, boxes, "first")
        if "masks" in needed and has_masks(self):
            most = int(heads.batch_size_per_image * heads.positive_fraction)
            mask_logits(heads, features, [of_image[:most] for of_image in boxes])

    @staticmethod
    def class_rows(
        model: GeneralizedRCNN, teacher: DetTeacher | None, sample: dict[str, Any]
    ) -> tuple[Tensor, Tensor | None]:
        """Return those of the student's best proposals, of a cascade by its first stage, the teacher's as distilled."""
        images = model.preprocess_image([sample])
        features = model.backbone(images.tensor)
        proposals, _ = model.proposal_generator(images, features)
        boxes = [proposals[0].proposal_boxes[: model.roi_heads.batch_size_per_image]]
        student = box_head.cls_logits(model.roi_heads, features, boxes, "first")
        if teacher is None or not isinstance(teacher.model, GeneralizedRCNN):
            return student, None
        return student, live_class_logits(teacher, [sample["image"]], [boxes])[0]
