"""Taps behind the teacher's last head layers, on the student's features and on its own: CrossKD of RetinaNets."""

import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from detectron2.modeling.meta_arch.retinanet import RetinaNetHead
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

from densedist.common.distill.taps import UNLABELED, Tap, Taps, TapSpec, TapSpecs
from densedist.common.losses.checks import widen
from densedist.common.losses.cross_head import align_channels
from densedist.common.modules import record
from densedist.det.taps.anchors import maps_in_student_classes, unlike
from densedist.det.taps.grid import by_row
from densedist.det.taps.group import AVERAGED, SCALED, TapGroup
from densedist.det.teacher.teacher import DetPending, DetTeacher

LevelMaps = Sequence[Tensor]  # by level
PREFIX = "crossed_"
# Of the classes' branch and of the boxes': for each convolution what comes before its ReLU, by level.
RecordedBranches = tuple[list[list[Tensor]], list[list[Tensor]]]


class Crossed(TapGroup):
    """The taps crossed_i (R, 4 + K), a row for each image and each anchor of all levels: box in pixels, class logits.

    The teacher's are its predictions. The student's are those that the teacher's head makes of what the student's head
    has after i convolutions, each channel with the teacher's mean and deviation there.

    Args:
        sync: take means and deviations over the images of all processes.
    """

    def __init__(self, sync: bool = False) -> None:
        self.sync = sync

    def specs(self, student: Any, teacher: DetTeacher) -> tuple[TapSpecs, TapSpecs]:
        tap = TapSpec("crossed", (4 + student.num_classes,), targets="anchors")
        ours = dict.fromkeys(_names(student.head), tap)
        return ours, {} if self.lacking(student, teacher) else ours

    def lacking(self, student: Any, teacher: DetTeacher) -> dict[str, str]:
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
    def record(self, student: Any) -> Iterator[RecordedBranches]:
        with ExitStack() as stack:
            classes, boxes = (
                [stack.enter_context(record(branch[end], lambda args, _: args[0])) for end in _ends(branch)]
                for branch in _branches(student.head)
            )
            yield classes, boxes

    def taps(self, needed: Collection[str], student: Any, recorded: RecordedBranches, pending: DetPending) -> Taps:
        teacher, first = pending.teacher, recorded[0][0]
        places = _anchors(student, first)
        head, passable = teacher.model.head, teacher.passable_head
        features = [pending.maps[level] for level in teacher.model.head_in_features]
        taps = {}
        for name in sorted(needed):
            number = int(name.removeprefix(PREFIX)) - 1
            with teacher.alone():
                held = [[_first(branch, number)(x) for x in features] for branch in _branches(head)]
                theirs = _predict(teacher, head, number, held, places)
            with torch.autocast(places.device.type, enabled=False):
                aligned = [
                    [align_channels(x, t, self.sync) for x, t in zip(maps[number], of_teacher, strict=True)]
                    for maps, of_teacher in zip(recorded, held, strict=True)
                ]
                ours = _predict(teacher, passable, number, aligned, places)
            taps[name] = Tap([ours], [theirs], targets=partial(_objects, student, first, places, pending))
        return taps


def _objects(student: Any, first: LevelMaps, places: Tensor, pending: DetPending) -> list[Tensor]:
    """Return what labels say of each anchor as the student's own losses see them, (N, anchors), nothing in padding."""
    labels = [sample.get("instances") for sample in pending.samples]
    open_ = torch.full((len(places),), UNLABELED, device=places.device)
    known = [open_ if one is None else _matches(student, places, one.to(places.device)) for one in labels]
    return [torch.stack(known).where(_inside(student, first, pending), UNLABELED)]


def _matches(student: Any, places: Tensor, labels: Instances) -> Tensor:
    """Return for each anchor 1 where there is an object, 0 where there is none, UNLABELED between both thresholds."""
    (classes,), _ = student.label_anchors([Boxes(places)], [labels])
    return torch.where(classes < 0, UNLABELED, (classes != student.num_classes).long())


def _inside(student: Any, first: LevelMaps, pending: DetPending) -> Tensor:
    """Return whether an anchor lies in the image, or in as little padding as the backbone wants: (N, anchors)."""
    multiple = max(student.backbone.size_divisibility, 1)
    generator, levels = student.anchor_generator, []
    for x, stride, count in zip(first, generator.strides, generator.num_anchors, strict=True):
        covered = []
        for sample in pending.samples:
            height, width = (
                torch.arange(places, device=x.device) < math.ceil(math.ceil(side / multiple) * multiple / stride)
                for places, side in zip(x.shape[2:], sample["image"].shape[1:], strict=True)
            )
            covered.append((height[:, None] & width).flatten().repeat_interleave(count))
        levels.append(torch.stack(covered))
    return torch.cat(levels, 1)


def _anchors(student: Any, first: LevelMaps) -> Tensor:
    """Return the anchors of one image (A, 4), in pixels."""
    return Boxes.cat(student.anchor_generator(first)).tensor


def _predict(teacher: DetTeacher, head: Any, number: int, held: Sequence[LevelMaps], places: Tensor) -> Tensor:
    """Return rows of the teacher's predictions, image by image.

    Args:
        head: with the teacher's last layers.
        held: of either branch what comes before that ReLU.
        places: the anchors of one image.
    """
    dtype = next(head.parameters()).dtype
    classes, boxes = (
        [_rest(branch, number)(x.to(dtype)) for x in maps] for branch, maps in zip(_branches(head), held, strict=True)
    )
    logits = maps_in_student_classes(teacher, [head.cls_score(x) for x in classes])
    columns = logits[0].shape[1] // teacher.model.anchor_generator.num_anchors[0]
    deltas = _by_image([head.bbox_pred(x) for x in boxes], 4)
    decoded = teacher.model.box2box_transform.apply_deltas(deltas.flatten(0, 1), places.repeat(len(deltas), 1))
    return torch.cat([decoded, _by_image(logits, columns).flatten(0, 1)], 1)


def _by_image(maps: LevelMaps, columns: int) -> Tensor:
    """Return maps of all levels as (N, anchors, columns), float32 at least."""
    return torch.cat([widen(by_row(x, columns)).view(len(x), -1, columns) for x in maps], 1)


def _branches(head: Any) -> tuple[nn.Sequential, nn.Sequential]:
    return head.cls_subnet, head.bbox_subnet


def _names(head: Any) -> list[str]:
    """Return the names of the taps: one for each convolution of a branch but the last."""
    return [f"{PREFIX}{i}" for i in range(1, len(_ends(head.cls_subnet)))] if isinstance(head, RetinaNetHead) else []


def _ends(branch: nn.Sequential) -> list[int]:
    """Return the indices of the ReLUs, where a block of convolution, norm or none, and ReLU ends."""
    return [number for number, layer in enumerate(branch) if isinstance(layer, nn.ReLU)]


def _first(branch: nn.Sequential, number: int) -> nn.Sequential:
    """Return the layers before the ReLU of that number."""
    return branch[: _ends(branch)[number]]


def _rest(branch: nn.Sequential, number: int) -> nn.Sequential:
    """Return the ReLU of that number and the layers after it."""
    return branch[_ends(branch)[number] :]


def _widths(head: RetinaNetHead) -> list[int]:
    return [layer.out_channels for layer in head.cls_subnet if isinstance(layer, nn.Conv2d)]
