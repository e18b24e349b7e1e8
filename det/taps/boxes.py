"""Rows of boxes, of both sides from the same references: RoIs or anchors."""

from dataclasses import dataclass

import torch
from detectron2.modeling.box_regression import Box2BoxTransform
from torch import Tensor

from densedist.common.distill.classes import ClassMap
from densedist.common.distill.indices import columns_of, on_device
from densedist.common.losses.checks import Activation, widen

SMALLEST = 0.01  # pixels: a side of no length has no logarithm


@dataclass(frozen=True)
class Likeliest:
    """For each of R rows the class that the teacher finds likeliest, among those that the student knows.

    Args:
        theirs, ours: its number (R,) on either side.
        logit: (R,), of an object of any of these classes being there.
    """

    theirs: Tensor
    ours: Tensor
    logit: Tensor


def likeliest(logits: Tensor, activation: Activation, count: int, classes: ClassMap | None) -> Likeliest:
    """Return the likeliest class of each row.

    Args:
        logits: the teacher's, (R, count + 1) with the background last, or (R, count) for sigmoids.
        count: of the teacher's classes.
        classes: how they become the student's; None = they are the same.
    """
    logits = widen(logits)
    if classes is None:
        inside, rest = logits[:, :count], logits[:, count:]
        highest, theirs = inside.max(1)
        ours = theirs
    else:
        numbers = classes.numbers
        others = tuple(column for column in range(logits.shape[1]) if column not in numbers)
        inside, rest = (columns_of(logits, columns) for columns in (tuple(numbers), others))
        highest, best = inside.max(1)
        theirs, ours = (on_device(tuple(x), logits.device)[best] for x in (numbers, numbers.values()))
    logit = highest if activation == "sigmoid" else inside.logsumexp(1) - rest.logsumexp(1)
    return Likeliest(theirs, ours, logit)


def box_rows(
    transform: Box2BoxTransform, deltas: Tensor, references: Tensor, boxes: Tensor, logit: Tensor, as_deltas: bool
) -> tuple[Tensor, Tensor]:
    """Return the student's rows (R, 4) and the teacher's (R, 5), with the logit of an object last.

    Args:
        transform: the student's.
        deltas: of the student, (R, 4), from references (R, 4) in pixels.
        boxes: of the teacher, (R, 4) in pixels.
        logit: of the teacher, (R,).
        as_deltas: as the student's regression targets, not in pixels.
    """
    deltas = widen(deltas)
    if as_deltas:
        corner, other = boxes.split(2, dim=1)
        boxes = transform.get_deltas(references, torch.cat([corner, torch.maximum(other, corner + SMALLEST)], 1))
    else:
        deltas = transform.apply_deltas(deltas, references)
    return deltas, torch.cat([boxes, widen(logit).unsqueeze(1)], 1)
