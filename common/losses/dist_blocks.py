"""DIST's two passes over the logits in plain PyTorch: block by block, each small enough to stay in the cache."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from densedist.common.losses.dist_terms import TINY, Relation, Slopes, Sums

# Values of one side in a block: on the CPU the scratch stays in the cache, on a GPU the launches are few.
BLOCK = {"cpu": 3 << 16}
BLOCK_ELSEWHERE = 1 << 23
# Up to this size logits are one block: the calls would cost more than the cache saves.
UNDIVIDED = 1 << 19
SAMPLES = 64  # rows of which the shift is the mean


class Rows(NamedTuple):
    """How the rows of a block relate, each (n, 1, l)."""

    student: Tensor  # the length of the student's centered row
    teacher: Tensor
    product: Tensor  # of both, + eps
    cross: Tensor  # the inner product of both


class Block(NamedTuple):
    """n images, l places, in scratch that the next block overwrites."""

    where: tuple[slice, slice, slice]  # in (N, C, L)
    probabilities: Tensor  # (2, n, C, l): the student's, the teacher's
    centered: Tensor  # (2, n, C, l): minus the mean of their row, after _relate()
    spare: Tensor  # (3, n, C, l)
    weight: Tensor | None  # (n, 1, l), 1 or 0; None = 1


Kept = tuple[Block, Rows] | None


def sums(student: Tensor, teacher: Tensor, valid: Tensor | None, relation: Relation) -> tuple[Sums, Kept]:
    """What the loss needs of the logits; and, if one block is all of them, what the gradient then need not repeat.

    Args:
        student, teacher: logits (R, C) or (N, C, *spatial), any floating dtype.
        valid: bool (R,) or (N, *spatial); None = all rows count.
    """
    walk = _Walk(student, teacher, valid, relation)
    total = torch.zeros(5, student.shape[1], dtype=torch.float64, device=student.device)
    correlation, count = total.new_zeros(()), total.new_full((), student.numel() // student.shape[1])
    shift: Tensor | None = None
    for block in walk:
        p, weight = block.probabilities, block.weight
        if shift is None:
            shift = _shift(p, weight)
        total += _column_sums(block, shift)
        rows = _relate(block, relation)
        cosine = rows.cross / rows.product
        correlation += (cosine if weight is None else cosine * weight).sum(dtype=torch.float64)
    assert shift is not None  # empty logits were refused
    if valid is not None:
        count = valid.sum(dtype=torch.float64)
    kept = (block, rows) if walk.is_one_block else None
    return Sums.of(count, correlation, shift.view(2, -1), total), kept


def gradient(
    student: Tensor, teacher: Tensor, valid: Tensor | None, relation: Relation, slopes: Slopes, kept: Kept
) -> Tensor:
    """The loss's gradient with respect to the student's logits, of their shape and dtype."""
    out = torch.empty_like(_places_last(student))
    means, own, other, row = (x.to(_precision(student)) for x in slopes)
    mean_p, mean_q, own, other = means[0, :, None], means[1, :, None], own.unsqueeze(1), other.unsqueeze(1)
    for block, rows in [kept] if kept else _related(student, teacher, valid, relation):
        p, q = block.probabilities.unbind()
        slope, spare, _ = block.spare.unbind()
        to_teacher = row / rows.product
        to_student = -to_teacher * rows.cross / rows.product * (rows.teacher / rows.student.clamp(min=TINY))
        torch.sub(p, mean_p, out=slope).mul_(own).addcmul_(torch.sub(q, mean_q, out=spare), other)
        slope.addcmul_(block.centered[0], to_student).addcmul_(block.centered[1], to_teacher)
        if block.weight is not None:
            slope.mul_(block.weight)
        slope.mul_(p)
        total = slope.sum(1, keepdim=True) if relation.activation == "softmax" else slope
        torch.addcmul(slope, p, total, value=-1, out=out[block.where])
    return out.view(student.shape)


def _related(
    student: Tensor, teacher: Tensor, valid: Tensor | None, relation: Relation
) -> Iterator[tuple[Block, Rows]]:
    for block in _Walk(student, teacher, valid, relation):
        yield block, _relate(block, relation)


class _Walk:
    """The blocks of logits seen as (N, C, L), one after another in the same scratch."""

    def __init__(self, student: Tensor, teacher: Tensor, valid: Tensor | None, relation: Relation) -> None:
        self.student, self.teacher, self.relation = _places_last(student), _places_last(teacher), relation
        images, classes, places = self.student.shape
        self.keep = None if valid is None else valid.reshape(images, 1, places)
        values = student.numel()
        block = values if values <= UNDIVIDED else BLOCK.get(student.device.type, BLOCK_ELSEWHERE)
        rows = max(1, block // classes)
        self.places, self.images = min(places, rows), min(images, max(1, rows // places))
        size = self.images * classes * self.places
        self.scratch = torch.empty(7, size, dtype=_precision(student), device=student.device)
        # Scratch in the order of the student's values (channels_last too), or each block would be transposed.
        self.classes_inside = places > 1 and self.student.stride(1) < self.student.stride(2)

    @property
    def is_one_block(self) -> bool:
        return (self.images, self.places) == (self.student.shape[0], self.student.shape[2])

    def __iter__(self) -> Iterator[Block]:
        images, _, places = self.student.shape
        for image in range(0, images, self.images):
            for place in range(0, places, self.places):
                yield self._block((slice(image, image + self.images), slice(None), slice(place, place + self.places)))

    def _block(self, where: tuple[slice, slice, slice]) -> Block:
        student, teacher = self.student[where], self.teacher[where]
        images, classes, places = student.shape
        scratch = self.scratch[:, : student.numel()]
        if self.classes_inside:
            scratch = scratch.view(7, images, places, classes).transpose(2, 3)
        else:
            scratch = scratch.view(7, images, classes, places)
        p, weight = scratch[:2], None
        self._activate(student.to(p.dtype), p[0])
        self._activate(teacher.to(p.dtype), p[1])
        if self.relation.activation == "softmax":
            # Faster than torch.softmax, which is slow over a dimension that is short or not the last.
            p.sub_(p.amax(2, keepdim=True)).exp2_()
            p.mul_(p.sum(2, keepdim=True).reciprocal_())
        if self.keep is not None:
            keep = self.keep[where]
            p.masked_fill_(~keep, 0)  # a NaN would survive the weight 0
            weight = keep.to(p.dtype)
        return Block(where, p, scratch[2:4], scratch[4:], weight)

    def _activate(self, logits: Tensor, out: Tensor) -> None:
        """The sigmoid, or of the softmax what each side needs alone."""
        tau = self.relation.tau
        if self.relation.activation == "softmax":
            torch.mul(logits, math.log2(math.e) / tau, out=out)  # for exp2, which takes half the time of exp
        else:
            torch.sigmoid(logits if tau == 1 else logits / tau, out=out)


def _places_last(logits: Tensor) -> Tensor:
    """(R, C) as (R, C, 1), (N, C, *spatial) as (N, C, L)."""
    return logits.unsqueeze(2) if logits.dim() == 2 else logits.flatten(2)


def _precision(logits: Tensor) -> torch.dtype:
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def _shift(p: Tensor, weight: Tensor | None) -> Tensor:
    """The mean of some rows (2, 1, C, 1): of p - shift float32 suffices, and a constant column is exactly 0."""
    _, images, _, places = p.shape
    some = slice(None, None, -(-images // SAMPLES)), slice(None), slice(None, None, -(-places // SAMPLES))
    sample = p[:, *some]
    if weight is None:
        return sample.mean((1, 3), keepdim=True, dtype=torch.float64).to(p.dtype)
    weight = weight[some].double()
    return ((sample * weight).sum((1, 3), keepdim=True) / weight.sum().clamp(min=1)).to(p.dtype)


def _column_sums(block: Block, shift: Tensor) -> Tensor:
    """(5, C), see Sums.of. Uses the room of block.centered."""
    shifted = torch.sub(block.probabilities, shift, out=block.centered)
    if block.weight is not None:
        shifted.mul_(block.weight)
    _products(shifted, block.spare)
    return torch.cat([shifted.sum((1, 3)), block.spare.sum((1, 3))])


def _relate(block: Block, relation: Relation) -> Rows:
    """The inner products of the centered rows. A constant row becomes exactly 0, however its values were rounded."""
    p, centered = block.probabilities, block.centered
    if relation.activation == "softmax":
        torch.sub(p, 1 / p.shape[2], out=centered)
    else:
        mean, first = p.mean(2, keepdim=True), p[:, :, :1]
        same = (mean - first).abs() <= 16 * torch.finfo(p.dtype).eps * first
        torch.sub(p, torch.where(same, first, mean), out=centered)
    _products(centered, block.spare)
    sums = block.spare.sum(2, keepdim=True)
    student, teacher = sums[:2].sqrt().unbind()
    return Rows(student, teacher, torch.add(relation.eps, student * teacher), sums[2])


def _products(pair: Tensor, out: Tensor) -> None:
    """Both squared, and their product."""
    torch.mul(pair, pair, out=out[:2])
    torch.mul(pair[0], pair[1], out=out[2])
