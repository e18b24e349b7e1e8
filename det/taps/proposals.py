"""The tap on region proposal networks: what both sides predict for the anchors that they share."""

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from detectron2.modeling.proposal_generator import RPN
from torch import Tensor

from densedist.common.distill.taps import Tap, Taps, TapSpec, TapSpecs
from densedist.common.losses.checks import widen
from densedist.common.modules import record
from densedist.det.taps.grid import anchor_boxes, by_anchor, different_grids
from densedist.det.taps.group import AVERAGED, SCALED, TapGroup
from densedist.det.teacher.teacher import DetPending, DetTeacher

# By level: objectness (N, anchors, H, W), deltas (N, anchors x 4, H, W).
RPNOutput = tuple[Sequence[Tensor], Sequence[Tensor]]


class Proposals(TapGroup):
    """proposals (R, 5), a row for each anchor of all levels and images: a box in pixels, and the logit of an object."""

    def specs(self, student: Any, teacher: DetTeacher) -> tuple[TapSpecs, TapSpecs]:
        tap = {"proposals": TapSpec("proposals", (5,))}
        return tap if _has_network(student) else {}, {} if self.lacking(student, teacher) else tap

    def lacking(self, student: Any, teacher: DetTeacher) -> dict[str, str]:
        if teacher.others:
            why = AVERAGED
        elif not (_has_network(student) and _has_network(teacher.model)):
            why = "both sides have to have a region proposal network"
        elif teacher.scale != 1:
            why = SCALED
        else:
            why = different_grids(student, teacher.model)
        return {"proposals": why} if why else {}

    def record(self, student: Any) -> AbstractContextManager[list[RPNOutput]]:
        return record(student.proposal_generator.rpn_head, lambda _, output: output)

    def taps(self, needed: Collection[str], student: Any, recorded: list[RPNOutput], pending: DetPending) -> Taps:
        ours, theirs = student.proposal_generator, pending.teacher.model.proposal_generator
        places = anchor_boxes(ours.anchor_generator, recorded[0][0])
        with pending.teacher.alone():
            given = theirs.rpn_head([pending.maps[name] for name in theirs.in_features])
            taught = _rows(theirs, given, places)
        return {"proposals": Tap([_rows(ours, recorded[0], places)], [taught])}


def _rows(network: Any, given: RPNOutput, places: Tensor) -> Tensor:
    objectness, deltas = given
    boxes = network.box2box_transform.apply_deltas(widen(by_anchor(deltas, 4)), places)
    return torch.cat([boxes, widen(by_anchor(objectness, 1))], 1)


def _has_network(model: Any) -> bool:
    return isinstance(getattr(model, "proposal_generator", None), RPN)
