"""Taps behind the teacher's last head layers, on the student's features and on its own: CrossKD of RetinaNets."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from detectron2.modeling.meta_arch.retinanet import RetinaNetHead
from torch import Tensor, nn

from densedist.common.distill.taps import Taps, TapSpec, TapSpecs
from densedist.common.losses.checks import widen
from densedist.common.modules import record
from densedist.det.taps.anchors import as_ours, unlike
from densedist.det.taps.grid import anchors, by_anchor
from densedist.det.taps.group import AVERAGED, SCALED, Batch, TapGroup
from densedist.det.teacher.detector import DetectorTeacher

PREFIX = "crossed_"
# For each convolution of a branch what it gives, behind its ReLU, by level; of the classes' branch and of the boxes'.
Seen = tuple[list[list[Tensor]], list[list[Tensor]]]


class Crossed(TapGroup):
    """crossed_i (R, 4 + K), a row for each anchor of all levels and images, box in pixels and class logits: the
    teacher's prediction, and the one that its head makes of what the student's head has after i convolutions."""

    def specs(self, student: Any, teacher: DetectorTeacher) -> tuple[TapSpecs, TapSpecs]:
        ours = dict.fromkeys(_names(student.head), TapSpec("crossed", (4 + student.num_classes,)))
        return ours, {} if self.lacking(student, teacher) else ours

    def lacking(self, student: Any, teacher: DetectorTeacher) -> dict[str, str]:
        heads = student.head, getattr(teacher.model, "head", None)
        if teacher.others:
            why = AVERAGED
        elif teacher.scale != 1:
            why = SCALED
        elif not (why := unlike(student, teacher.model)):
            if not all(isinstance(head, RetinaNetHead) for head in heads):
                why = "it takes the heads of RetinaNet on both sides"
            elif (ours := _widths(heads[0])) != (theirs := _widths(heads[1])):
                why = f"the student's head has convolutions of {ours} channels, the teacher's of {theirs}"
        return dict.fromkeys(_names(student.head), why) if why else {}

    @contextmanager
    def watch(self, student: Any) -> Iterator[Seen]:
        with ExitStack() as stack:
            classes, boxes = (
                [stack.enter_context(record(branch[end], lambda _, output: output)) for end in _ends(branch)]
                for branch in (student.head.cls_subnet, student.head.bbox_subnet)
            )
            yield classes, boxes

    def taps(self, needed: Collection[str], student: Any, seen: Seen, batch: Batch) -> tuple[Taps, Taps]:
        teacher = batch.teacher
        head, features = teacher.model.head, [batch.maps[level] for level in teacher.model.head_in_features]
        places = anchors(student.anchor_generator, seen[0][0])
        with teacher.alone():
            alone = _predict(
                teacher, [head.cls_subnet(x) for x in features], [head.bbox_subnet(x) for x in features], places
            )
        ours, theirs = {}, {}
        for name in sorted(needed):
            number = int(name.removeprefix(PREFIX)) - 1
            with torch.autocast(places.device.type, enabled=False):
                classes, boxes = (
                    [_rest(branch, number)(x.to(teacher.precision)) for x in maps[number]]
                    for branch, maps in zip((head.cls_subnet, head.bbox_subnet), seen, strict=True)
                )
                ours[name] = [_predict(teacher, classes, boxes, places)]
            theirs[name] = [alone]
        return ours, theirs


def _predict(teacher: DetectorTeacher, classes: Sequence[Tensor], boxes: Sequence[Tensor], places: Tensor) -> Tensor:
    """Rows of the teacher's predictions, of what its branches give by level."""
    head = teacher.model.head
    logits = as_ours(teacher, [head.cls_score(x) for x in classes])
    columns = logits[0].shape[1] // teacher.model.anchor_generator.num_anchors[0]
    deltas = widen(by_anchor([head.bbox_pred(x) for x in boxes], 4))
    decoded = teacher.model.box2box_transform.apply_deltas(deltas, places)
    return torch.cat([decoded, widen(by_anchor(logits, columns))], 1)


def _names(head: Any) -> list[str]:
    """Of the taps before the last convolution of a branch."""
    return [f"{PREFIX}{i}" for i in range(1, len(_ends(head.cls_subnet)))] if isinstance(head, RetinaNetHead) else []


def _ends(branch: nn.Sequential) -> list[int]:
    """Where the blocks of a convolution, a norm or none, and a ReLU end."""
    return [number for number, layer in enumerate(branch) if isinstance(layer, nn.ReLU)]


def _rest(branch: nn.Sequential, number: int) -> nn.Sequential:
    return branch[_ends(branch)[number] + 1 :]


def _widths(head: RetinaNetHead) -> list[int]:
    return [layer.out_channels for layer in head.cls_subnet if isinstance(layer, nn.Conv2d)]
