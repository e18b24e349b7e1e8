"""Taps on the anchors of a one-stage detector: class logits and boxes of both sides there."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from detectron2.modeling.meta_arch import RetinaNet
from detectron2.modeling.meta_arch.retinanet import RetinaNetHead
from torch import Tensor

from densedist.common.distill.ensemble import mean_logits
from densedist.common.distill.taps import Tap, Taps, TapSpec, TapSpecs, inside_of
from densedist.common.losses.checks import widen
from densedist.common.modules import record
from densedist.det.taps.boxes import likeliest, rows
from densedist.det.taps.grid import anchors, by_anchor, by_row, different_grids
from densedist.det.taps.group import AVERAGED, SCALED, TapGroup
from densedist.det.teacher.teacher import DetPending, DetTeacher

LOGITS, BOXES = ("cls_logits", "logit_maps"), ("boxes", "deltas")
# By level: class logits (N, anchors x classes, H, W), deltas (N, anchors x 4, H, W).
Given = tuple[list[Tensor], list[Tensor]]


class Anchors(TapGroup):
    """The taps on anchors.

    cls_logits: a tensor for each level, of rows with the classes of one anchor, or of all anchors of one location.
    logit_maps: the same numbers as maps (N, anchors x classes, H, W).
    boxes: a row for each anchor of all levels and images, where the student puts it, (R, 4), and the teacher, (R, 5).
    deltas: the same as regression targets of the student.

    Args:
        whole_locations: a row of cls_logits has all anchors of a location (DISTILL.DENSE_ROWS locations).
    """

    def __init__(self, whole_locations: bool = False) -> None:
        self.whole_locations = whole_locations

    def specs(self, student: Any, teacher: DetTeacher) -> tuple[TapSpecs, TapSpecs]:
        # Of a teacher of other classes the logits come in the student's.
        maps = tuple(count * student.num_classes for count in student.anchor_generator.num_anchors)
        logits = {
            "cls_logits": TapSpec("rows", (self._columns(student),) * len(maps), "sigmoid"),
            "logit_maps": TapSpec("maps", maps, "sigmoid"),
        }
        ours, theirs = (logits | dict.fromkeys(BOXES, TapSpec("boxes", (columns,))) for columns in (4, 5))
        lacking = self.lacking(student, teacher)
        return ours, {name: tap for name, tap in theirs.items() if name not in lacking}

    def lacking(self, student: Any, teacher: DetTeacher) -> dict[str, str]:
        for model in teacher.models:
            if why := unlike(student, model):
                return dict.fromkeys((*LOGITS, *BOXES), why)
        if teacher.scale != 1:
            return dict.fromkeys((*LOGITS, *BOXES), SCALED)
        if teacher.others:
            return dict.fromkeys(BOXES, AVERAGED)
        return {}

    def record(self, student: Any) -> AbstractContextManager[list[Given]]:
        return record(student.head, lambda _, output: output)

    def taps(self, needed: Collection[str], student: Any, recorded: list[Given], pending: DetPending) -> Taps:
        (maps, deltas), teacher, columns = recorded[0], pending.teacher, self._columns(student)
        each = [(one.teacher, model_class_maps(one.teacher, one.maps)) for one in (pending, *pending.others)]
        mean = _mean([in_student_classes(one, given) for one, given in each])
        ours, theirs = ([by_row(x, columns) for x in side] for side in (maps, mean))
        taps = {"cls_logits": Tap(ours, theirs)}
        if "logit_maps" in needed:
            extents = pending.extents(student.anchor_generator.strides)
            taps["logit_maps"] = Tap(maps, mean, [inside_of(x, e) for x, e in zip(maps, extents, strict=True)])
        if names := set(BOXES) & set(needed):
            model = teacher.model
            with teacher.alone():
                rows_of_all = by_anchor(each[0][1], model.num_classes)
                best = likeliest(rows_of_all, "sigmoid", model.num_classes, teacher.classes)
                places = anchors(student.anchor_generator, maps)
                found = widen(by_anchor(_model_delta_maps(teacher, pending.maps), 4))
                boxes = model.box2box_transform.apply_deltas(found, places)
            for name in sorted(names):
                given = student.box2box_transform, by_anchor(deltas, 4)
                put, wanted = rows(*given, places, boxes, best.logit, as_deltas=name == "deltas")
                taps[name] = Tap([put], [wanted])
        return taps

    def _columns(self, student: Any) -> int:
        """Return the columns of cls_logits."""
        return student.num_classes * (student.anchor_generator.num_anchors[0] if self.whole_locations else 1)


def live_class_maps(teacher: DetTeacher, images: Sequence[Tensor]) -> list[Tensor]:
    """Return by level class logits (N, anchors x classes, H, W) in the student's classes, of an ensemble those of the
    mean probabilities.

    Args:
        images: raw images (3, H, W), 0 to 255, in the student's channel order.
    """
    each = [(one, model_class_maps(one, one.live_maps(images))) for one in (teacher, *teacher.others)]
    return _mean([in_student_classes(one, maps) for one, maps in each])


def model_class_maps(teacher: DetTeacher, maps: Mapping[str, Tensor]) -> list[Tensor]:
    """Return by level class logits (N, anchors x the model's classes, H, W). Of stock heads box regression does not
    run."""
    model, head = teacher.model, teacher.model.head
    features = [maps[level] for level in model.head_in_features]
    with teacher.alone():
        if isinstance(head, RetinaNetHead):
            return [head.cls_score(head.cls_subnet(x)) for x in features]
        return head(features)[0]  # a user's own head runs whole


def _model_delta_maps(teacher: DetTeacher, maps: Mapping[str, Tensor]) -> list[Tensor]:
    model, head = teacher.model, teacher.model.head
    features = [maps[level] for level in model.head_in_features]
    if isinstance(head, RetinaNetHead):
        return [head.bbox_pred(head.bbox_subnet(x)) for x in features]
    return head(features)[1]


def in_student_classes(teacher: DetTeacher, maps: Sequence[Tensor]) -> list[Tensor]:
    """Return maps (N, anchors x the teacher's classes, H, W) as maps of the student's classes."""
    if teacher.classes is None:
        return list(maps)
    count = teacher.model.num_classes
    return [teacher.classes.tiled(x.shape[1] // count, count).of_teacher(x, "sigmoid") for x in maps]


def _mean(each: Sequence[list[Tensor]]) -> list[Tensor]:
    return [mean_logits(level, "sigmoid") for level in zip(*each, strict=True)]


def unlike(student: Any, teacher: Any) -> str:
    """Return why the anchors of a RetinaNet are not those of its teacher; "" if they are."""
    if not isinstance(teacher, RetinaNet):
        return f"the teacher is a {type(teacher).__name__}, no RetinaNet"
    return different_grids(student, teacher)
