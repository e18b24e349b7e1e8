"""Two-stage students: any GeneralizedRCNN config, distilled on the RoIs that the student samples."""

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes
from torch import Tensor, nn

from densedist.common.distill.classes import ClassMap
from densedist.common.distill.taps import Taps, TapSpec, TapSpecs, per_image, subsample
from densedist.common.distill.teacher import precision
from densedist.common.errors import UserError
from densedist.common.losses.checks import Activation, widen
from densedist.common.modules import eval_mode, record
from densedist.det import box_head
from densedist.det.cache.boxes import BoxesRCNNTeacher
from densedist.det.cache.maps import MapsRCNNTeacher
from densedist.det.distilling import Distilling
from densedist.det.taps import common_extents, feature_specs, feature_taps
from densedist.det.teacher.detector import DetectorTeacher
from densedist.det.teacher.loading import load_teacher_model
from densedist.det.teacher.rcnn import ROI_SAMPLES, RCNNTeacher


@dataclass(frozen=True)
class Seen:
    """What the student's parts saw and gave: the backbone's maps; boxes and pooled features, class logits by call."""

    features: list[dict[str, Tensor]]
    regions: list[tuple[list[Boxes], Tensor]]
    logits: list[list[Tensor]]


def _in_float32(_: nn.Module, args: tuple[list[Tensor], Any]) -> tuple[list[Tensor], Any]:
    """A pooler's arguments with the maps widened: it gives boxes their precision, and half of it moves them by pixels.

    Under autocast what comes after the pooler takes its own precision from float32, too.
    """
    features, boxes = args
    return [widen(x) for x in features], boxes


@META_ARCH_REGISTRY.register()
class DistillRCNN(Distilling, GeneralizedRCNN):
    """GeneralizedRCNN whose training losses include distillation from a frozen R-CNN teacher.

    Taps, in training: cls_logits [R, K+1], with sigmoids [R, K], of every call of the student's box predictor (one
    for Faster and Mask R-CNN, one per stage for Cascade), and the teacher's on the same boxes; rois, the means of the
    pooled features of up to ROI_SAMPLES of these boxes; and those of det/taps.py. Images without labels are distilled
    on as many of the student's best proposals as RoIs are sampled with labels.
    """

    proposal_generator: Any
    roi_heads: Any
    preprocess_image: Any

    stock = GeneralizedRCNN
    classes_key = "MODEL.ROI_HEADS.NUM_CLASSES"
    row = "RoIs"

    @configurable
    def __init__(self, **arguments: Any) -> None:
        """
        Args:
            arguments: see Distilling.
        """
        super().__init__(**arguments)
        for module in self.modules():
            if isinstance(module, ROIPooler):
                module.register_forward_pre_hook(_in_float32)

    @classmethod
    def load_teacher(cls, cfg: CfgNode) -> RCNNTeacher:
        stages = cfg.DISTILL.TEACHER.CASCADE_STAGES
        kind, node = RCNNTeacher, cfg.DISTILL.TEACHER
        if node.CACHE:
            kind = MapsRCNNTeacher if node.CACHE_MAPS_GB else BoxesRCNNTeacher
            if node.INPUT_SCALE != 1:
                raise UserError(
                    "DISTILL.TEACHER.CACHE keeps what the teacher sees in images of the student's size: set "
                    "DISTILL.TEACHER.INPUT_SCALE to 1"
                )
        loaded = load_teacher_model(cfg, GeneralizedRCNN)
        return kind(loaded.model, loaded.flipped, precision(cfg), stages, loaded.classes, node.INPUT_SCALE)

    def check_pair(self, teacher: DetectorTeacher) -> None:
        box_head.check(self.roi_heads)
        kinds = [box_head.activation(model.roi_heads) for model in teacher.models]
        if len(set(kinds)) > 1:
            raise UserError(
                f"DISTILL.TEACHER.MORE: the teachers' class heads are {', '.join(kinds)}: want all of one kind"
            )

    def tap_specs(self, teacher: DetectorTeacher) -> tuple[TapSpecs, TapSpecs]:
        calls = len(box_head.predictors(self.roi_heads))

        def specs(model: GeneralizedRCNN, levels: list[str], classes: ClassMap | None) -> TapSpecs:
            pooled = box_head.pooled_channels(model.roi_heads, model.backbone)
            activation, extra = self.class_columns(model)
            columns = (classes.columns if classes else model.roi_heads.num_classes) + len(extra)
            return {
                "cls_logits": TapSpec("rows", (columns,) * calls, activation),
                "rois": TapSpec("samples", (pooled,) * calls),
                **feature_specs(model.backbone, levels),
            }

        assert isinstance(teacher, RCNNTeacher)
        ours, theirs = self.levels
        if teacher.scale != 1:  # its maps lie otherwise on the student's image
            theirs = []
        given = specs(teacher.model, theirs, teacher.classes)
        return specs(self, ours, None), {"cls_logits": given["cls_logits"]} if teacher.others else given

    @staticmethod
    def class_columns(model: Any) -> tuple[Activation, tuple[str, ...]]:
        """Heads of sigmoids (MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE) have no background."""
        activation = box_head.activation(model.roi_heads)
        return activation, () if activation == "sigmoid" else ("background",)

    @contextmanager
    def watch(self) -> Iterator[Seen]:
        heads = self.roi_heads
        with ExitStack() as stack:
            yield Seen(
                stack.enter_context(record(self.backbone, lambda _, output: output)),
                stack.enter_context(record(box_head.pooler(heads), lambda args, output: (args[1], output))),
                [
                    stack.enter_context(record(p, lambda _, output: box_head.columns(heads, output[0])))
                    for p in box_head.predictors(heads)
                ],
            )

    def run_without_labels(self, inputs: list[dict]) -> None:
        images = self.preprocess_image(inputs)
        features = self.backbone(images.tensor)
        # Without labels there is nothing for it to learn; in training it would ask for them.
        with eval_mode(self.proposal_generator), torch.no_grad():
            proposals, _ = self.proposal_generator(images, features)
        boxes = [p.proposal_boxes[: self.roi_heads.batch_size_per_image] for p in proposals]
        box_head.cls_logits(self.roi_heads, features, boxes, "first")

    def taps(self, needed: Collection[str], inputs: list[dict], seen: Seen) -> tuple[Taps, Taps]:
        assert self.distillation is not None
        teacher, (ours, theirs) = self.distillation.teacher, self.levels
        images = [sample["image"] for sample in inputs]
        extents = common_extents(self.backbone, teacher.model.backbone, ours, images)
        student = feature_taps(needed, seen.features[0], ours, extents)
        student["cls_logits"] = [call for calls in seen.logits for call in calls]
        if "rois" in needed:
            student["rois"] = [subsample(per_image(pooled), ROI_SAMPLES) for _, pooled in seen.regions]
        boxes = [boxes for boxes, _ in seen.regions]
        return student, teacher.for_batch(needed, inputs, boxes, theirs, extents)

    @staticmethod
    def class_rows(
        model: GeneralizedRCNN, teacher: RCNNTeacher | None, sample: dict[str, Any]
    ) -> tuple[Tensor, Tensor | None]:
        """On the student's best proposals, of a cascade by its first stage, the teacher as it is distilled."""
        images = model.preprocess_image([sample])
        features = model.backbone(images.tensor)
        proposals, _ = model.proposal_generator(images, features)
        boxes = [proposals[0].proposal_boxes[: model.roi_heads.batch_size_per_image]]
        student = box_head.cls_logits(model.roi_heads, features, boxes, "first")
        if teacher is None:
            return student, None
        return student, teacher.taps({"cls_logits"}, [sample["image"]], [boxes])["cls_logits"][0]
