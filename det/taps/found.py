"""Taps of a teacher that finds boxes in whole images: class logits and boxes on the student's RoIs or anchors.

RoIs and anchors have the logits of the box that they lie on. Those on no box have the logits of the background, and
count: the teacher has looked at all of the image, so that it finds nothing there is an answer, too. Were they left out,
images without labels would teach where objects are and never where none is, and DIST's relation across the rows would
have objects alone to compare. No box is taught there.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from detectron2.modeling.matcher import Matcher
from detectron2.structures import Boxes, pairwise_iou
from torch import Tensor

from densedist.common.distill.taps import UNLABELED, Tap, Taps, TapSpecs
from densedist.common.losses.checks import Activation
from densedist.det.modeling import box_head
from densedist.det.taps.anchors import BOX_TAPS, Anchors, HeadOutput
from densedist.det.taps.boxes import box_rows, likeliest
from densedist.det.taps.grid import by_anchor, by_row
from densedist.det.taps.rois import FIRST, REFINED, RecordedRoIs, RoIs, rows_in_student_classes, tap_of_boxes
from densedist.det.teacher.foreign import ForeignTeacher
from densedist.det.teacher.objects import Objects, ObjectsTeacher
from densedist.det.teacher.teacher import DetPending, DetTeacher

IOU = 0.5  # an RoI that overlaps a box by less is background, as in Detectron2's own sampling
ON_A_BOX = Matcher([IOU], [0, 1])
OF_MAPS = ("features", "images", "cells")
WHY = "the teacher gives boxes with class scores alone"


class FoundRoIs(RoIs):
    """The taps cls_logits, boxes and deltas of RoIs, in the student's activation. An RoI takes the box that it overlaps
    most, if by IOU at least."""

    def specs(self, student: Any, teacher: DetTeacher) -> tuple[TapSpecs, TapSpecs]:
        ours, theirs = super().specs(student, teacher)
        if isinstance(teacher, ForeignTeacher):
            boxes = {name: replace(ours[name], channels=(5,) * len(ours[name].channels)) for name in FIRST}
            theirs = {"cls_logits": ours["cls_logits"], **boxes}
        return ours, theirs

    def lacking(self, student: Any, teacher: DetTeacher) -> dict[str, str]:
        if not isinstance(teacher, ForeignTeacher):
            return super().lacking(student, teacher)
        return dict.fromkeys(("rois", *REFINED, *OF_MAPS, "proposals", "masks"), WHY)

    def taps(self, needed: Collection[str], student: Any, recorded: RecordedRoIs, pending: DetPending) -> Taps:
        teacher, heads = pending.teacher, student.roi_heads
        assert isinstance(teacher, ObjectsTeacher)
        objects = teacher.objects(pending.samples)
        activation = box_head.activation(heads)
        rows = _rows(teacher, objects, pending, activation)
        calls = [
            [matched(of_image, one.boxes, ON_A_BOX) for of_image, one in zip(rois, objects, strict=True)]
            for rois, _ in recorded.regions
        ]
        logits = [torch.cat([x[numbers] for x, numbers in zip(rows, call, strict=True)]) for call in calls]
        narrow = [x.to(teacher.precision) for x in logits]
        taps = {"cls_logits": self.tap_of_logits(student, recorded, pending, narrow)}
        if box_taps := sorted(set(needed) & set(FIRST)):
            taught = []
            for call, of_call, (rois, _) in zip(calls, logits, recorded.regions, strict=True):
                boxes = torch.cat([boxes_at(*of_image) for of_image in zip(objects, call, rois, strict=True)])
                taught.append((likeliest(of_call, activation, heads.num_classes, None), boxes))
            taps |= {name: tap_of_boxes(name, student, recorded, taught) for name in box_taps}
        return taps


class FoundAnchors(Anchors):
    """The taps cls_logits, boxes and deltas of anchors. The student's own matcher says which anchors are on a box, as
    it does for labels: an anchor that it leaves open, too near for background and too far for an object, does not
    count."""

    def lacking(self, student: Any, teacher: DetTeacher) -> dict[str, str]:
        crossed = (f"crossed_{position}" for position in (1, 2, 3))
        return dict.fromkeys(("logit_maps", *OF_MAPS, *crossed), WHY)

    def taps(self, needed: Collection[str], student: Any, recorded: list[HeadOutput], pending: DetPending) -> Taps:
        (maps, deltas), teacher, columns = recorded[0], pending.teacher, self._columns(student)
        assert isinstance(teacher, ObjectsTeacher)
        objects, levels = teacher.objects(pending.samples), student.anchor_generator(maps)
        sizes, anchors = [len(level) for level in levels], Boxes.cat(levels)
        rows = _rows(teacher, objects, pending, "sigmoid")
        numbers = [matched(anchors, one.boxes, student.anchor_matcher) for one in objects]
        logits = _by_level([x[of_image] for x, of_image in zip(rows, numbers, strict=True)], sizes)
        counts = _by_level([of_image != UNLABELED for of_image in numbers], sizes)
        anchors_a_row = columns // student.num_classes  # one of which is enough for the row to count
        taps = {
            "cls_logits": Tap(
                [by_row(x, columns) for x in maps],
                [x.reshape(-1, columns) for x in logits],
                [x.view(-1, anchors_a_row).any(1) for x in counts],
            )
        }
        if box_taps := set(BOX_TAPS) & set(needed):
            each = [boxes_at(one, of_image, anchors) for one, of_image in zip(objects, numbers, strict=True)]
            boxes = torch.cat(_by_level(each, sizes))
            references = torch.cat(_by_level([anchors.tensor] * len(objects), sizes))
            best = likeliest(torch.cat(logits), "sigmoid", student.num_classes, None)
            for name in sorted(box_taps):
                ours, as_deltas = by_anchor(deltas, 4), name == "deltas"
                pair = box_rows(student.box2box_transform, ours, references, boxes, best.logit, as_deltas)
                taps[name] = Tap([pair[0]], [pair[1]])
        return taps


def matched(places: Boxes, boxes: Tensor, matcher: Matcher) -> Tensor:
    """Return for each of R places the number of the box (B, 4) that it is on: (R,), int64; B where it is on none,
    UNLABELED where the matcher leaves it open."""
    numbers, kind = matcher(pairwise_iou(Boxes(boxes), places))
    return numbers.masked_fill(kind == 0, len(boxes)).masked_fill(kind == -1, UNLABELED)


def boxes_at(objects: Objects, numbers: Tensor, places: Boxes) -> Tensor:
    """Return the boxes (R, 4) that places are on, by matched(); a place that is on none stays as it is."""
    on_a_box = (numbers >= 0) & (numbers < len(objects.boxes))
    known = torch.cat([objects.boxes, objects.boxes.new_zeros(1, 4)])
    return known[numbers].where(on_a_box[:, None], places.tensor)


def _rows(
    teacher: ObjectsTeacher, objects: Sequence[Objects], pending: DetPending, activation: Activation
) -> list[Tensor]:
    """Return for each image class logits of the student, a row for each box and a last one for the background.

    Args:
        activation: of the student.
    """
    found = []
    for one, sample in zip(objects, pending.samples, strict=True):
        rows = torch.cat([one.logits, one.background[None]])
        if isinstance(teacher, ForeignTeacher):
            rows = teacher.in_student_classes(rows, activation)
        else:
            rows = rows_in_student_classes(teacher, rows)
        # What is kept was seen in the image before it was mirrored.
        found.append(with_classes_swapped(rows, sample) if teacher.kept else rows)
    return found


def with_classes_swapped(rows: Tensor, sample: Mapping[str, Any]) -> Tensor:
    """Return class logits (R, K) of the student's classes with those swapped that a mirrored image swaps
    (INPUT.FLIP_PAIRS), and the background's where it was."""
    order = sample.get("class_order")
    return rows if order is None else rows[:, [*order, *range(len(order), rows.shape[1])]]


def _by_level(each: Sequence[Tensor], sizes: Sequence[int]) -> list[Tensor]:
    """Return by level what each image has (anchors of all levels, *): (images x anchors, *), image by image.

    Args:
        sizes: how many anchors each level has.
    """
    return [torch.cat(level) for level in zip(*(x.split(list(sizes)) for x in each), strict=True)]
