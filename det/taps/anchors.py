"""Taps on the anchors of a one-stage detector: class logits and boxes of both sides there."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from detectron2.modeling.meta_arch import RetinaNet
from detectron2.modeling.meta_arch.retinanet import RetinaNetHead
from torch import Tensor

from densedist.common.distill.ensemble import mean_logits
from densedist.common.distill.taps import Tap, Taps, TapSpec, TapSpecs, inside_of
from densedist.common.losses.checks import widen
from densedist.common.modules import record
from densedist.det.taps.boxes import box_rows, likeliest
from densedist.det.taps.grid import anchor_boxes, by_anchor, different_grids, in_place
from densedist.det.taps.group import AVERAGED, SCALED, TapGroup
from densedist.det.teacher.teacher import DetPending, DetTeacher

LOGIT_TAPS, BOX_TAPS = ("cls_logits", "logit_maps"), ("boxes", "deltas")
# By level: class logits (N, anchors x classes, H, W), deltas (N, anchors x 4, H, W).
HeadOutput = tuple[list[Tensor], list[Tensor]]


class Anchors(TapGroup):
    """The taps on anchors.

    cls_logits: a tensor for each level, of rows with the classes of one anchor, or of all anchors of one location; not
        copied, where both heads have written maps in the usual order (see Tap.spatial).
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
        ours, theirs = (logits | dict.fromkeys(BOX_TAPS, TapSpec("boxes", (columns,))) for columns in (4, 5))
        lacking = self.lacking(student, teacher)
        return ours, {name: tap for name, tap in theirs.items() if name not in lacking}

    def lacking(self, student: Any, teacher: DetTeacher) -> dict[str, str]:
        for model in teacher.models:
            if why := unlike(student, model):
                return dict.fromkeys((*LOGIT_TAPS, *BOX_TAPS), why)
        if teacher.scale != 1:
            return dict.fromkeys((*LOGIT_TAPS, *BOX_TAPS), SCALED)
        if teacher.others:
            return dict.fromkeys(BOX_TAPS, AVERAGED)
        return {}

    def record(self, student: Any) -> AbstractContextManager[list[HeadOutput]]:
        return record(student.head, lambda _, output: output)

    def taps(self, needed: Collection[str], student: Any, recorded: list[HeadOutput], pending: DetPending) -> Taps:
        (maps, deltas), teacher, columns = recorded[0], pending.teacher, self._columns(student)
        # Of each teacher of an ensemble, in its own classes.
        class_maps = [model_class_maps(batch.teacher, batch.maps) for batch in (pending, *pending.others)]
        mean_maps = _mean_in_student_classes((teacher, *teacher.others), class_maps)
        # Where one side is channels_last, as stock teachers are, it is cheaper to copy the other into rows.
        together = any(x[0].is_contiguous(memory_format=torch.channels_last) for x in (maps, mean_maps))
        ours, theirs = ([in_place(x, columns, together) for x in levels] for levels in (maps, mean_maps))
        taps = {"cls_logits": Tap(ours, theirs, spatial=not together)}
        if "logit_maps" in needed:
            extents = pending.extents(student.anchor_generator.strides)
            inside = [inside_of(x, extent) for x, extent in zip(maps, extents, strict=True)]
            taps["logit_maps"] = Tap(maps, mean_maps, inside)
        if box_taps := set(BOX_TAPS) & set(needed):
            model = teacher.model
            with teacher.alone():
                logits = by_anchor(class_maps[0], model.num_classes)
                best = likeliest(logits, "sigmoid", model.num_classes, teacher.classes)
                anchors = anchor_boxes(student.anchor_generator, maps)
                teacher_deltas = widen(by_anchor(_model_delta_maps(teacher, pending.maps), 4))
                boxes = model.box2box_transform.apply_deltas(teacher_deltas, anchors)
            for name in sorted(box_taps):
                student_deltas, as_deltas = by_anchor(deltas, 4), name == "deltas"
                rows = box_rows(student.box2box_transform, student_deltas, anchors, boxes, best.logit, as_deltas)
                taps[name] = Tap([rows[0]], [rows[1]])
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
    teachers = (teacher, *teacher.others)
    return _mean_in_student_classes(teachers, [model_class_maps(one, one.live_maps(images)) for one in teachers])


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


def maps_in_student_classes(teacher: DetTeacher, maps: Sequence[Tensor]) -> list[Tensor]:
    """Return maps (N, anchors x the teacher's classes, H, W) as maps of the student's classes."""
    if teacher.classes is None:
        return list(maps)
    count = teacher.model.num_classes
    return [teacher.classes.tiled(x.shape[1] // count, count).of_teacher(x, "sigmoid") for x in maps]


def _mean_in_student_classes(teachers: Sequence[DetTeacher], class_maps: Sequence[list[Tensor]]) -> list[Tensor]:
    """Return by level the class logits of an ensemble's mean probabilities.

    Args:
        class_maps: of each teacher, by level, in its own classes.
    """
    by_teacher = [maps_in_student_classes(one, maps) for one, maps in zip(teachers, class_maps, strict=True)]
    return [mean_logits(level, "sigmoid") for level in zip(*by_teacher, strict=True)]


def unlike(student: Any, teacher: Any) -> str:
    """Return why the anchors of a RetinaNet are not those of its teacher; "" if they are."""
    if not isinstance(teacher, RetinaNet):
        return f"the teacher is a {type(teacher).__name__}, no RetinaNet"
    return different_grids(student, teacher)
