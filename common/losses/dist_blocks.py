"""DIST's two passes over the logits in plain PyTorch: block by block, each small enough to stay in the cache."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from common.losses.dist_terms import Relation, Slopes, Sums

# Values of one side in a block. On the CPU three pairs of them stay in the last-level cache; on a GPU the
# launches must be few.
BLOCK = {"cpu": 1 << 17}
BLOCK_ELSEWHERE = 1 << 23


def sums(student: Tensor, teacher: Tensor, valid: Tensor | None, relation: Relation) -> Sums:
    """What the loss needs of the logits, see Sums.

    Args:
        student, teacher: logits (R, C) or (N, C, *spatial), any floating dtype.
        valid: bool (R,) or (N, *spatial); None = all rows count.
    """
    walk = _Walk(student, teacher, valid, relation)
    options = {"dtype": torch.float64, "device": student.device}
    classes = student.shape[1]
    count, correlation = torch.zeros(2, **options)
    # Of p - shift, not of p: a constant column has exactly no variance then, and float32 is enough in a block.
    shift: Tensor | None = None
    first, square, cross = torch.zeros(2, classes, **options), torch.zeros(2, classes, **options), 0
    for block in walk:
        p, spare = block.probabilities, block.spare
        rows = _relate(block, relation)
        weight = block.weight
        cosine = rows.cross / rows.product
        correlation += (cosine if weight is None else cosine * weight).sum(dtype=torch.float64)
        count += cosine.numel() if weight is None else weight.sum(dtype=torch.float64)
        if shift is None:
            counted = p if weight is None else torch.mul(p, weight, out=spare)
            mean = counted.sum((1, 3), keepdim=True, dtype=torch.float64) / count.clamp(min=1)
            shift = mean.to(p.dtype)
        p.sub_(shift)
        if weight is not None:
            p.mul_(weight)
        first += p.sum((1, 3))
        square += torch.mul(p, p, out=spare).sum((1, 3))
        cross = cross + torch.mul(p[0], p[1], out=spare[0]).sum((0, 2)).double()
    assert shift is not None  # there is a block at least: empty logits were refused
    offset = first / count.clamp(min=1)
    moments = torch.cat([square - first * offset, (cross - first[0] * offset[1]).unsqueeze(0)])
    return Sums(count, correlation, shift.view(2, classes) + offset, moments)


def gradient(student: Tensor, teacher: Tensor, valid: Tensor | None, relation: Relation, slopes: Slopes) -> Tensor:
    """The loss's gradient with respect to the student's logits, of their shape and dtype."""
    walk = _Walk(student, teacher, valid, relation)
    out = torch.empty_like(walk.student)
    means = slopes.means.to(walk.dtype).unsqueeze(2)
    own, other = (x.to(walk.dtype).unsqueeze(1) for x in (slopes.own, slopes.other))
    row = slopes.row.to(walk.dtype)
    for block in walk:
        (p, q), (slope, spare) = block.probabilities, block.spare
        rows = _relate(block, relation)
        (a, b), by_teacher = block.centred, row / rows.product
        ratio = torch.where(rows.student > 0, rows.teacher / rows.student, 0)
        by_student = -by_teacher * rows.cross / rows.product * ratio
        torch.sub(p, means[0], out=slope).mul_(own).addcmul_(q.sub_(means[1]), other)
        slope.addcmul_(a, by_student).addcmul_(b, by_teacher)
        if block.weight is not None:
            slope.mul_(block.weight)
        if relation.activation == "softmax":
            slope.mul_(p)
            torch.addcmul(slope, p, slope.sum(1, keepdim=True), value=-1, out=out[block.where])
        else:
            torch.sub(1, p, out=spare).mul_(p)
            torch.mul(slope, spare, out=out[block.where])
    return out.view(student.shape)


class _Block(NamedTuple):
    where: tuple[slice, slice, slice]  # in (N, C, L)
    probabilities: Tensor  # (2, n, C, l): the student's, the teacher's
    centred: Tensor  # the same, room for them minus their row's mean
    spare: Tensor  # the same, room
    weight: Tensor | None  # (n, 1, l), 1 or 0; None = 1


class _Walk:
    """The blocks of logits seen as (N, C, L), with the same scratch for all of them."""

    def __init__(self, student: Tensor, teacher: Tensor, valid: Tensor | None, relation: Relation) -> None:
        self.student, self.teacher = _places_last(student), _places_last(teacher)
        images, self.classes, places = self.student.shape
        self.keep = None if valid is None else valid.reshape(images, 1, places)
        self.relation = relation
        self.dtype = torch.promote_types(student.dtype, torch.float32)
        rows = max(1, BLOCK.get(student.device.type, BLOCK_ELSEWHERE) // self.classes)
        self.places, self.images = min(places, rows), min(images, max(1, rows // places))
        size = self.images * self.classes * self.places
        self.scratch = torch.empty(3, 2, size, dtype=self.dtype, device=student.device)
        # Scratch in the order of the student's values (channels_last too), or each block would be transposed.
        self.classes_inside = places > 1 and self.student.stride(1) < self.student.stride(2)

    def __iter__(self) -> Iterator[_Block]:
        images, _, places = self.student.shape
        for image in range(0, images, self.images):
            for place in range(0, places, self.places):
                yield self._block((slice(image, image + self.images), slice(None), slice(place, place + self.places)))

    def _block(self, where: tuple[slice, slice, slice]) -> _Block:
        student, teacher = self.student[where], self.teacher[where]
        images, classes, places = student.shape
        scratch = self.scratch[:, :, : student.numel()]
        if self.classes_inside:
            scratch = scratch.view(3, 2, images, places, classes).transpose(3, 4)
        else:
            scratch = scratch.view(3, 2, images, classes, places)
        logits, centred, spare = scratch
        logits[0].copy_(student)
        logits[1].copy_(teacher)
        weight = None
        if self.keep is not None:
            keep = self.keep[where]
            logits.masked_fill_(~keep, 0)  # a NaN would survive the weight 0
            weight = keep.to(self.dtype)
        if self.relation.tau != 1:
            logits.div_(self.relation.tau)
        if self.relation.activation == "softmax":
            # Half the time of torch.softmax over a dimension that is short or not the last.
            logits.sub_(logits.amax(2, keepdim=True)).exp_()
            logits.mul_(logits.sum(2, keepdim=True).reciprocal_())
        else:
            logits.sigmoid_()
        return _Block(where, logits, centred, spare, weight)


def _places_last(logits: Tensor) -> Tensor:
    """(R, C) as (R, C, 1), (N, C, *spatial) as (N, C, L)."""
    return logits.unsqueeze(2) if logits.dim() == 2 else logits.flatten(2)


class _Rows(NamedTuple):
    student: Tensor  # (n, 1, l): the length of the centred row
    teacher: Tensor
    product: Tensor  # of both, + eps
    cross: Tensor  # the inner product of the centred rows


def _relate(block: _Block, relation: Relation) -> _Rows:
    """The rows' inner products; fills block.centred. A constant row becomes exactly 0, whatever the rounding."""
    p, centred, spare = block.probabilities, block.centred, block.spare
    if relation.activation == "softmax":
        torch.sub(p, 1 / p.shape[2], out=centred)
    else:
        torch.sub(p, p[:, :, :1], out=centred)
        centred.sub_(centred.mean(2, keepdim=True))
    student, teacher = torch.mul(centred, centred, out=spare).sum(2, keepdim=True).sqrt_()
    cross = torch.mul(centred[0], centred[1], out=spare[0]).sum(1, keepdim=True)
    return _Rows(student, teacher, torch.add(relation.eps, student * teacher), cross)
