"""Taps on the mask heads of both sides, on the RoIs that the student predicts masks for."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.modeling.roi_heads.mask_head import BaseMaskRCNNHead
from detectron2.structures import Boxes
from torch import Tensor
from torch.nn import functional as F

from densedist.common.distill.taps import Tap, Taps, TapSpec, TapSpecs
from densedist.common.losses.checks import widen
from densedist.common.modules import record
from densedist.det.modeling import box_head
from densedist.det.taps.boxes import likeliest
from densedist.det.taps.group import AVERAGED, TapGroup
from densedist.det.taps.rois import scaled
from densedist.det.teacher.teacher import DetPending, DetTeacher


@dataclass(frozen=True)
class RecordedMasks:
    """What went into the student's mask head and came out of it, by call: boxes, and logits (R, K or 1, M, M)."""

    boxes: list[list[Boxes]]
    logits: list[Tensor]


class Masks(TapGroup):
    """masks (R, 1, M, M), logits of both sides for the class that the teacher finds likeliest, at the student's
    resolution: of RoIs where it sees an object rather than none.
    """

    def specs(self, student: Any, teacher: DetTeacher) -> tuple[TapSpecs, TapSpecs]:
        tap = {"masks": TapSpec("masks", (1,))}
        return tap if has_masks(student) else {}, {} if self.lacking(student, teacher) else tap

    def lacking(self, student: Any, teacher: DetTeacher) -> dict[str, str]:
        if teacher.others:
            why = AVERAGED
        elif not (has_masks(student) and has_masks(teacher.model)):
            why = "MODEL.MASK_ON has to be True on both sides"
        else:
            return {}
        return {"masks": why}

    @contextmanager
    def record(self, student: Any) -> Iterator[RecordedMasks]:
        heads = student.roi_heads
        with (
            record(heads.mask_pooler, lambda args, _: args[1]) as boxes,
            record(heads.mask_head.predictor, lambda _, output: output) as logits,
        ):
            yield RecordedMasks(boxes, logits)

    def taps(self, needed: Collection[str], student: Any, recorded: RecordedMasks, pending: DetPending) -> Taps:
        teacher = pending.teacher
        heads, boxes, ours = teacher.model.roi_heads, scaled(recorded.boxes[0], teacher.scale), recorded.logits[0]
        with teacher.alone():
            logits = box_head.cls_logits(heads, pending.maps, boxes, teacher.stages)
            best = likeliest(logits, box_head.activation(heads), heads.num_classes, teacher.classes)
            theirs = mask_logits(heads, pending.maps, boxes)
            sure = best.logit > 0
            theirs = _of_class(theirs, best.theirs)[sure]
            if theirs.shape[2:] != ours.shape[2:]:
                theirs = F.interpolate(widen(theirs), ours.shape[2:], mode="bilinear")
        return {"masks": Tap([_of_class(ours, best.ours)[sure]], [theirs])}


def has_masks(model: Any) -> bool:
    """Return whether a model is an R-CNN with a mask head whose last layer gives the logits of its RoIs."""
    heads: Any = model.roi_heads if isinstance(model, GeneralizedRCNN) else None
    if not getattr(heads, "mask_on", False) or getattr(heads, "mask_pooler", None) is None:
        return False  # C4 heads have none, as they share the box head's features
    return isinstance(heads.mask_head, BaseMaskRCNNHead) and hasattr(heads.mask_head, "predictor")


def mask_logits(roi_heads: Any, features: dict[str, Tensor], boxes: list[Boxes]) -> Tensor:
    """Return mask logits (R, K or 1, M, M) of the given boxes, one Boxes per image."""
    maps = [features[name] for name in roi_heads.mask_in_features]
    # In float32, as in det/modeling/box_head.py.
    regions = roi_heads.mask_pooler([widen(x) for x in maps], boxes).to(maps[0].dtype)
    return roi_heads.mask_head.layers(regions)


def _of_class(logits: Tensor, classes: Tensor) -> Tensor:
    """Return the mask logits (R, 1, M, M) of a class for each row of (R, K, M, M); class-agnostic ones stay."""
    if logits.shape[1] == 1:
        return logits
    return logits.gather(1, classes[:, None, None, None].expand(-1, 1, *logits.shape[2:]))
