"""Taps on the region proposal networks: what both sides say of the anchors that they share."""

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from detectron2.modeling.proposal_generator import RPN
from torch import Tensor

from densedist.common.distill.taps import Taps, TapSpec, TapSpecs
from densedist.common.losses.checks import widen
from densedist.common.modules import record
from densedist.det.taps.grid import anchors, by_anchor, different_grids
from densedist.det.taps.group import AVERAGED, SCALED, Batch, TapGroup
from densedist.det.teacher.detector import DetectorTeacher

# By level: objectness (N, anchors, H, W), deltas (N, anchors x 4, H, W).
Given = tuple[Sequence[Tensor], Sequence[Tensor]]


class Proposals(TapGroup):
    """proposals (R, 5), a row for each anchor of all levels and images: a box in pixels, and the logit of an object."""

    def specs(self, student: Any, teacher: DetectorTeacher) -> tuple[TapSpecs, TapSpecs]:
        tap = {"proposals": TapSpec("proposals", (5,))}
        return tap if _has_network(student) else {}, {} if self.lacking(student, teacher) else tap

    def lacking(self, student: Any, teacher: DetectorTeacher) -> dict[str, str]:
        if teacher.others:
            why = AVERAGED
        elif not (_has_network(student) and _has_network(teacher.model)):
            why = "both sides have to have a region proposal network"
        elif teacher.scale != 1:
            why = SCALED
        else:
            why = different_grids(student, teacher.model)
        return {"proposals": why} if why else {}

    def watch(self, student: Any) -> AbstractContextManager[list[Given]]:
        return record(student.proposal_generator.rpn_head, lambda _, output: output)

    def taps(self, needed: Collection[str], student: Any, seen: list[Given], batch: Batch) -> tuple[Taps, Taps]:
        ours, theirs = student.proposal_generator, batch.teacher.model.proposal_generator
        places = anchors(ours.anchor_generator, seen[0][0])
        with batch.teacher.alone():
            given = theirs.rpn_head([batch.maps[name] for name in theirs.in_features])
            taught = _rows(theirs, given, places)
        return {"proposals": [_rows(ours, seen[0], places)]}, {"proposals": [taught]}


def _rows(network: Any, given: Given, places: Tensor) -> Tensor:
    objectness, deltas = given
    boxes = network.box2box_transform.apply_deltas(widen(by_anchor(deltas, 4)), places)
    return torch.cat([boxes, widen(by_anchor(objectness, 1))], 1)


def _has_network(model: Any) -> bool:
    return isinstance(getattr(model, "proposal_generator", None), RPN)
