"""Taps on the anchors of a one-stage detector: class logits and boxes of both sides there."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from detectron2.modeling.meta_arch import RetinaNet
from detectron2.modeling.meta_arch.retinanet import RetinaNetHead
from torch import Tensor

from densedist.common.distill.ensemble import mean_logits
from densedist.common.distill.taps import Inside, Taps, TapSpec, TapSpecs, inside_of
from densedist.common.losses.checks import widen
from densedist.common.modules import record
from densedist.det.taps.boxes import likeliest, rows
from densedist.det.taps.grid import anchors, by_anchor, by_row, different_grids
from densedist.det.taps.group import AVERAGED, SCALED, Batch, TapGroup
from densedist.det.teacher.detector import DetectorTeacher

LOGITS, BOXES = ("cls_logits", "logit_maps"), ("boxes", "deltas")
# By level: class logits (N, anchors x classes, H, W), deltas (N, anchors x 4, H, W).
Given = tuple[list[Tensor], list[Tensor]]


class Anchors(TapGroup):
    """With a tensor for each level: cls_logits, rows of the classes of one anchor, or of all anchors of one location;
    and logit_maps (N, anchors x classes, H, W), the same numbers.

    boxes, a row for each anchor of all levels and images: where the teacher puts it, (R, 5), and where the student
    does, (R, 4). deltas: the same as regression targets of the student.
    """

    def specs(self, student: Any, teacher: DetectorTeacher) -> tuple[TapSpecs, TapSpecs]:
        # Of a teacher of other classes the logits come in the student's.
        maps = tuple(count * student.num_classes for count in student.anchor_generator.num_anchors)
        logits = {
            "cls_logits": TapSpec("rows", (_columns(student),) * len(maps), "sigmoid"),
            "logit_maps": TapSpec("maps", maps, "sigmoid"),
        }
        ours, theirs = (logits | dict.fromkeys(BOXES, TapSpec("boxes", (columns,))) for columns in (4, 5))
        lacking = self.lacking(student, teacher)
        return ours, {name: tap for name, tap in theirs.items() if name not in lacking}

    def lacking(self, student: Any, teacher: DetectorTeacher) -> dict[str, str]:
        for model in teacher.models:
            if why := unlike(student, model):
                return dict.fromkeys((*LOGITS, *BOXES), why)
        if teacher.scale != 1:
            return dict.fromkeys((*LOGITS, *BOXES), SCALED)
        if teacher.others:
            return dict.fromkeys(BOXES, AVERAGED)
        return {}

    def watch(self, student: Any) -> AbstractContextManager[list[Given]]:
        return record(student.head, lambda _, output: output)

    def taps(self, needed: Collection[str], student: Any, seen: list[Given], batch: Batch) -> tuple[Taps, Taps]:
        (maps, deltas), teacher = seen[0], batch.teacher
        ours: dict[str, Sequence[Tensor]] = {}
        theirs: dict[str, Sequence[Tensor]] = {}
        each = [own_class_maps(one.teacher, one.maps) for one in batch.of_all]
        mean = _mean([as_ours(one.teacher, own) for one, own in zip(batch.of_all, each, strict=True)])
        for side, logits in ((ours, maps), (theirs, mean)):
            side["logit_maps"] = logits
            side["cls_logits"] = [by_row(x, _columns(student)) for x in logits]
        if names := set(BOXES) & set(needed):
            model = teacher.model
            with teacher.alone():
                best = likeliest(by_anchor(each[0], model.num_classes), "sigmoid", model.num_classes, teacher.classes)
                places = anchors(student.anchor_generator, maps)
                found = widen(by_anchor(_own_delta_maps(teacher, batch.maps), 4))
                boxes = model.box2box_transform.apply_deltas(found, places)
            for name in sorted(names):
                given = student.box2box_transform, by_anchor(deltas, 4)
                pair = rows(*given, places, boxes, best.logit, as_deltas=name == "deltas")
                ours[name], theirs[name] = ([x] for x in pair)
        return ours, theirs

    def inside(self, needed: Collection[str], student: Any, seen: list[Given], batch: Batch) -> Inside:
        if "logit_maps" not in needed:
            return {}
        extents = batch.extents(student.anchor_generator.strides)
        return {"logit_maps": [inside_of(x, own) for x, own in zip(seen[0][0], extents, strict=True)]}


def live_class_maps(teacher: DetectorTeacher, images: Sequence[Tensor]) -> list[Tensor]:
    """By level, class logits (N, anchors x classes, H, W) in the student's classes; of several teachers with
    probabilities that are the mean of all.

    Args:
        images: raw images (3, H, W), 0 to 255, in the student's channel order.
    """
    each = [(one, own_class_maps(one, one.live_maps(images))) for one in (teacher, *teacher.others)]
    return _mean([as_ours(one, maps) for one, maps in each])


def own_class_maps(teacher: DetectorTeacher, maps: Mapping[str, Tensor]) -> list[Tensor]:
    """By level, class logits (N, anchors x its classes, H, W); where it can be told, box regression does not run."""
    model, head = teacher.model, teacher.model.head
    features = [maps[level] for level in model.head_in_features]
    with teacher.alone():
        if isinstance(head, RetinaNetHead):
            return [head.cls_score(head.cls_subnet(x)) for x in features]
        return head(features)[0]  # a head of somebody's own, whole


def _own_delta_maps(teacher: DetectorTeacher, maps: Mapping[str, Tensor]) -> list[Tensor]:
    model, head = teacher.model, teacher.model.head
    features = [maps[level] for level in model.head_in_features]
    if isinstance(head, RetinaNetHead):
        return [head.bbox_pred(head.bbox_subnet(x)) for x in features]
    return head(features)[1]


def as_ours(teacher: DetectorTeacher, maps: Sequence[Tensor]) -> list[Tensor]:
    """Maps (N, anchors x its classes, H, W) in the student's classes."""
    if teacher.classes is None:
        return list(maps)
    count = teacher.model.num_classes
    return [teacher.classes.tiled(x.shape[1] // count, count).of_teacher(x, "sigmoid") for x in maps]


def _mean(each: Sequence[list[Tensor]]) -> list[Tensor]:
    return each[0] if len(each) == 1 else [mean_logits(level, "sigmoid") for level in zip(*each, strict=True)]


def _columns(student: Any) -> int:
    return student.num_classes * (student.anchor_generator.num_anchors[0] if student.whole_locations else 1)


def unlike(student: Any, teacher: Any) -> str:
    """Why the anchors of a RetinaNet are not those of its teacher; "" if they are."""
    if not isinstance(teacher, RetinaNet):
        return f"the teacher is a {type(teacher).__name__}, no RetinaNet"
    return different_grids(student, teacher)
