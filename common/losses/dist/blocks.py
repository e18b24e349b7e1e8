"""DIST's two passes over the logits in plain PyTorch: block by block, each small enough to stay in the cache."""

import math
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from densedist.common.losses.dist import terms
from densedist.common.losses.dist.memory import empty_like
from densedist.common.losses.dist.terms import TINY, Relation, Slopes, Sums
from densedist.common.losses.dist.threads import in_threads

T = TypeVar("T")
Part = tuple[slice, slice, slice]  # of (N, C, L)

# Values of one side in a block: on the CPU the scratch stays in the cache, on a GPU the launches are few.
BLOCK = {"cpu": 3 << 16}
BLOCK_ELSEWHERE = 1 << 23
# Up to this size logits are one block: the calls would cost more than the cache saves.
UNDIVIDED = 1 << 19

finish = terms.finish


class Rows(NamedTuple):
    """How the rows of a block relate, each (n, 1, l)."""

    student: Tensor  # the length of the student's centered row
    teacher: Tensor
    product: Tensor  # of both, + eps
    cross: Tensor  # the inner product of both


class Block(NamedTuple):
    """n images, l places, in scratch that the next block overwrites."""

    where: Part
    probabilities: Tensor  # (2, n, C, l): the student's, the teacher's
    centered: Tensor  # (2, n, C, l): minus the mean of their row, after _relate()
    spare: Tensor  # (3, n, C, l)
    weight: Tensor | None  # (n, 1, l), 1 or 0; None = 1


Kept = tuple[Block, Rows] | None


def sums(student: Tensor, teacher: Tensor, valid: Tensor | None, relation: Relation) -> tuple[Sums, Kept]:
    """Return the sums that the loss needs; and, if one block is all of the logits, what gradient need not repeat then.

    Args:
        student, teacher: logits (R, C) or (N, C, *spatial), any floating dtype.
        valid: bool (R,) or (N, *spatial); None = all rows count.
    """
    walk = _Walk(student, teacher, valid, relation)
    shift = walk.shift()
    kept: list[tuple[Block, Rows]] = []

    def measure(block: Block) -> tuple[Tensor, Tensor]:
        columns = _column_sums(block, shift)
        rows = _relate(block, relation)
        if walk.is_one_block:
            kept.append((block, rows))
        cosine = rows.cross / rows.product
        return columns, (cosine if block.weight is None else cosine * block.weight).sum(dtype=torch.float64)

    total = torch.zeros(5, student.shape[1], dtype=torch.float64, device=student.device)
    correlation, count = total.new_zeros(()), total.new_full((), student.numel() // student.shape[1])
    for columns, cosines in walk.map(measure, walk.parts):
        total += columns
        correlation += cosines
    if valid is not None:
        count = valid.sum(dtype=torch.float64)
    return Sums.of(count, correlation, shift.view(2, -1), total), kept[0] if kept else None


def gradient(
    student: Tensor,
    teacher: Tensor,
    valid: Tensor | None,
    relation: Relation,
    slopes: Slopes,
    upstream: Tensor,
    kept: Kept,
) -> Tensor:
    """Return the loss's gradient with respect to the student's logits, of their shape and dtype.

    Args:
        student, teacher, valid, relation: as in sums.
        slopes, upstream: of the loss, and the gradient with respect to the loss.
        kept: what sums kept.
    """
    out = empty_like(_places_last(student))
    means, own, other, row = (x.to(_precision(student)) for x in slopes.times(upstream))
    mean_p, mean_q, own, other = means[0, :, None], means[1, :, None], own.unsqueeze(1), other.unsqueeze(1)

    def write(block: Block, rows: Rows) -> None:
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

    if kept:
        in_threads(lambda: lambda known: write(*known), [kept], student.device)
    else:
        walk = _Walk(student, teacher, valid, relation)
        walk.map(lambda block: write(block, _relate(block, relation)), walk.parts)
    return out.view(student.shape)


class _Walk:
    """The blocks of logits seen as (N, C, L)."""

    def __init__(self, student: Tensor, teacher: Tensor, valid: Tensor | None, relation: Relation) -> None:
        self.student, self.teacher, self.relation = _places_last(student), _places_last(teacher), relation
        images, classes, places = self.student.shape
        self.keep = None if valid is None else valid.reshape(images, 1, places)
        values = student.numel()
        block = values if values <= UNDIVIDED else BLOCK.get(student.device.type, BLOCK_ELSEWHERE)
        rows = max(1, block // classes)
        self.places, self.images = min(places, rows), min(images, max(1, rows // places))
        # Scratch in the order of the student's values (channels_last too), or each block would be transposed.
        self.classes_inside = places > 1 and self.student.stride(1) < self.student.stride(2)

    @property
    def is_one_block(self) -> bool:
        return (self.images, self.places) == (self.student.shape[0], self.student.shape[2])

    @property
    def parts(self) -> list[Part]:
        images, _, places = self.student.shape
        return [
            (slice(image, image + self.images), slice(None), slice(place, place + self.places))
            for image in range(0, images, self.images)
            for place in range(0, places, self.places)
        ]

    def shift(self) -> Tensor:
        """Return the mean (2, 1, C, 1) of rows from all over the logits, or if none of them counts the first that does.

        Float32 suffices for p - shift, and a constant column is exactly 0.
        """
        images, _, places = self.student.shape
        every_image, every_place = terms.sample_strides(images, places)

        def some(values: Tensor) -> Tensor:
            return values[::every_image, :, ::every_place].transpose(1, 2).reshape(-1, values.shape[1])

        student, teacher, valid = some(self.student), some(self.teacher), None
        if self.keep is not None:
            first = self.keep.flatten().view(torch.uint8).argmax()
            image, place = first // places, first % places
            student = torch.cat([student, self.student[image, :, place].view(1, -1)])
            teacher = torch.cat([teacher, self.teacher[image, :, place].view(1, -1)])
            valid = some(self.keep)[:, 0]
            valid = torch.cat([valid, self.keep[image, 0, place].view(1) & ~valid.any()])
        sample = _Walk(student, teacher, valid, self.relation)
        total, count = (sum(parts) for parts in zip(*sample.map(_total, sample.parts), strict=True))
        return (total / count.clamp(min=1)).to(_precision(self.student))

    def map(self, function: Callable[[Block], T], parts: list[Part]) -> list[T]:
        """Return function(block) for each part, in order; on the CPU in threads."""

        def start() -> Callable[[Part], T]:
            size = self.images * self.student.shape[1] * self.places
            scratch = torch.empty(7, size, dtype=_precision(self.student), device=self.student.device)
            return lambda part: function(self._block(part, scratch))

        return in_threads(start, parts, self.student.device)

    def _block(self, where: Part, scratch: Tensor) -> Block:
        student, teacher = self.student[where], self.teacher[where]
        images, classes, places = student.shape
        scratch = scratch[:, : student.numel()]
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
        """Write the sigmoid, or the exponents of the softmax, into out."""
        tau = self.relation.tau
        if self.relation.activation == "softmax":
            torch.mul(logits, math.log2(math.e) / tau, out=out)  # for exp2, which takes half the time of exp
        else:
            torch.sigmoid(logits if tau == 1 else logits / tau, out=out)


def _places_last(logits: Tensor) -> Tensor:
    """Return (R, C) as (R, C, 1), (N, C, *spatial) as (N, C, L)."""
    return logits.unsqueeze(2) if logits.dim() == 2 else logits.flatten(2)


def _precision(logits: Tensor) -> torch.dtype:
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def _total(block: Block) -> tuple[Tensor, Tensor]:
    """Return the sum of the rows, (2, 1, C, 1), and how many count."""
    p, weight = block.probabilities, block.weight
    count = p.new_full((), p.shape[1] * p.shape[3]) if weight is None else weight.sum()
    return p.sum((1, 3), keepdim=True, dtype=torch.float64), count  # p is 0 where weight is


def _column_sums(block: Block, shift: Tensor) -> Tensor:
    """Return the block's share (5, C) of Sums.of. Overwrites block.centered and block.spare."""
    shifted = torch.sub(block.probabilities, shift, out=block.centered)
    if block.weight is not None:
        shifted.mul_(block.weight)
    _products(shifted, block.spare)
    return torch.cat([shifted.sum((1, 3)), block.spare.sum((1, 3))])


def _relate(block: Block, relation: Relation) -> Rows:
    """Return the inner products of the rows, which are centered here: a constant row becomes exactly 0."""
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
    """Write the squares of both, and their product, into out."""
    torch.mul(pair, pair, out=out[:2])
    torch.mul(pair[0], pair[1], out=out[2])
