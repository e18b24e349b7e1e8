"""The frozen two-stage teacher: from its own config and weights to class logits on given boxes."""

import logging

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model
from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.structures import Boxes
from torch import Tensor

from common.checkpoint import load_complete
from common.classes import check_same_classes
from common.config import find_config, merge
from common.errors import UserError
from common.teacher import Teacher
from det import box_head
from det.config import add_distill_config, without_distillation
from det.data import class_names, register_coco_format

logger = logging.getLogger(__name__)


class RCNNTeacher(Teacher[GeneralizedRCNN]):
    """A frozen R-CNN that classifies boxes which somebody else proposes.

    It runs its backbone and box head only: no RPN, no NMS, no mask head, and of a cascade the later
    stages only where asked for.

    Args:
        model: a GeneralizedRCNN; it is frozen here and put in eval mode.
        flip_channels: the images come in the other channel order (BGR for RGB) than the model wants.
        stages: of a cascade, "first" or "mean" (see det/box_head.py).
    """

    def __init__(self, model: GeneralizedRCNN, flip_channels: bool = False, stages: str = "first") -> None:
        super().__init__(model)
        box_head.check(model.roi_heads)
        self.flip_channels, self.stages = flip_channels, stages

    @torch.no_grad()
    def cls_logits(self, images: list[Tensor], boxes: list[list[Boxes]]) -> list[Tensor]:
        """Class logits for each list of boxes.

        Args:
            images: raw images (3, H, W), 0 to 255, in the student's channel order.
            boxes: any number of box lists, each with one Boxes per image, in its pixels.

        Returns:
            for each box list logits (R, K+1), background last.
        """
        if self.flip_channels:
            images = [image.flip(0) for image in images]
        batch = self.model.preprocess_image([{"image": image} for image in images])
        features = self.model.backbone(batch.tensor)
        return [box_head.cls_logits(self.model.roi_heads, features, b, self.stages) for b in boxes]


def load_teacher(student_cfg: CfgNode) -> RCNNTeacher:
    """The teacher that DISTILL.TEACHER of the student's config names, on the student's device.

    Raises:
        UserError: a missing config or weights, weights that do not fit, or classes other than the student's.
    """
    node = student_cfg.DISTILL.TEACHER
    if node.CASCADE_STAGES not in ("first", "mean"):
        raise UserError(f"DISTILL.TEACHER.CASCADE_STAGES is {node.CASCADE_STAGES}: want first or mean")
    cfg = get_cfg()
    add_distill_config(cfg)
    merge(cfg, find_config(node.CONFIG_FILE, "DISTILL.TEACHER.CONFIG_FILE"))
    cfg.MODEL.DEVICE = student_cfg.MODEL.DEVICE
    register_coco_format(cfg)
    logger.info(check_classes(student_cfg, cfg))
    formats = {"student": student_cfg.INPUT.FORMAT, "teacher": cfg.INPUT.FORMAT}
    for side, value in formats.items():
        if value not in ("BGR", "RGB"):
            raise UserError(f"INPUT.FORMAT of the {side} is {value}: want BGR or RGB")
    with torch.random.fork_rng():  # its initial weights are overwritten; the student's run stays as without it
        model = build_model(without_distillation(cfg))
    if not isinstance(model, GeneralizedRCNN):
        raise UserError(f"DISTILL.TEACHER.CONFIG_FILE: {type(model).__name__} is no GeneralizedRCNN")
    load_complete(model, node.WEIGHTS, "DISTILL.TEACHER.WEIGHTS")
    return RCNNTeacher(model, formats["student"] != formats["teacher"], node.CASCADE_STAGES)


def check_classes(student: CfgNode, teacher: CfgNode) -> str:
    """What could be found out about the classes of both configs, in words for the log.

    Raises:
        UserError: another number of classes, or other names or another order.
    """
    counts = student.MODEL.ROI_HEADS.NUM_CLASSES, teacher.MODEL.ROI_HEADS.NUM_CLASSES
    if counts[0] != counts[1]:
        raise UserError(
            f"MODEL.ROI_HEADS.NUM_CLASSES: the student has {counts[0]} classes, the teacher "
            f"{counts[1]}; distillation needs the same classes in the same order"
        )
    ours, theirs = class_names(student.DATASETS.TRAIN), class_names(teacher.DATASETS.TRAIN)
    if ours is None or theirs is None:
        side = "student" if ours is None else "teacher"
        return f"{counts[0]} classes on both sides; their order is not checked, as the {side}'s data set is unknown"
    check_same_classes(ours, theirs)
    return f"student and teacher have the same {counts[0]} classes in the same order"
