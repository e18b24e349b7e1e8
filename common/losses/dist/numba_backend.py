"""DIST's two passes over the logits as Numba kernels: each reads the logits once, in the order in which they lie."""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from densedist.common.losses.dist import numba_kernels, terms
from densedist.common.losses.dist.memory import empty_like
from densedist.common.losses.dist.terms import TINY, Relation, Slopes, Sums
from densedist.common.losses.dist.threads import in_threads

T = TypeVar("T")
Part = tuple[slice, slice, slice]  # of (N, C, L)
Values = NDArray[np.float32]
Layout = tuple[int, int, int, int]
Scratch = tuple[Values, Values, Values]  # p, q, vectors: see numba_kernels.sums

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
MAX_CLASSES = 4096  # with which a thread's scratch is 7 MB
CHUNK = 1 << 19  # values of one side that a thread takes at a time
HALF_CHUNK = 1 << 17  # of those that it first makes float32: three times as many need room


def can(logits: Tensor) -> bool:
    """Return whether the kernels take such logits: not float64, not more than MAX_CLASSES."""
    return logits.dtype in DTYPES and logits.shape[1] <= MAX_CLASSES


def sums(student: Tensor, teacher: Tensor, valid: Tensor | None, relation: Relation) -> tuple[Sums, Scratch | None]:
    """Return the sums that the loss needs; and, if one chunk is all of the logits, what gradient need not repeat then.

    Arguments as in blocks.sums.
    """
    walk = _Walk(student, teacher, valid, relation)
    classes = student.shape[1]
    kept = _scratch(classes, walk.rows) if len(walk.parts) == 1 else None
    shift = walk.shift()

    def measure(part: Part, scratch: Scratch) -> NDArray[np.float64]:
        out = np.zeros(5 * classes + 2)
        numba_kernels.sums(*walk.arguments(part), shift, *scratch, out)
        return out

    # Added in the order of the chunks, whichever thread had them.
    total = np.sum(walk.map(measure, kept), axis=0)
    means, moments = np.empty((2, classes)), np.empty((3, classes))
    numba_kernels.center(total, shift, means, moments)
    rows, correlation = torch.from_numpy(total[-2:])
    return Sums(rows, correlation, torch.from_numpy(means), torch.from_numpy(moments)), kept


def finish(sums: Sums, relation: Relation) -> tuple[Tensor, Slopes]:
    """Return the loss (0-dim, float64) and its gradient's coefficients: terms.finish in one kernel."""
    beta, gamma, tau, _, eps = relation
    classes = sums.means.shape[1]
    own, other = np.empty((2, classes))
    weights = tau**2 * beta, tau**2 * gamma, -tau * gamma / classes, -tau * beta
    read = sums.rows.item(), sums.correlation.item(), sums.moments.numpy()
    numbers = numba_kernels.finish(*read, *weights, eps, TINY, own, other)
    loss, row = torch.from_numpy(np.array(numbers))
    return loss, Slopes(sums.means, torch.from_numpy(own), torch.from_numpy(other), row)


def gradient(
    student: Tensor,
    teacher: Tensor,
    valid: Tensor | None,
    relation: Relation,
    slopes: Slopes,
    upstream: Tensor,
    kept: Scratch | None,
) -> Tensor:
    """Return the loss's gradient with respect to the student's logits, of their shape and dtype. Arguments as in
    blocks.gradient."""
    slopes = slopes.times(upstream)
    walk = _Walk(student, teacher, valid, relation)
    out = empty_like(walk.student)
    by_class = torch.cat([slopes.means, slopes.own.unsqueeze(0), slopes.other.unsqueeze(0)]).float().numpy()
    numbers = by_class, np.float32(slopes.row.item()), np.float32(TINY), kept is not None

    def write(part: Part, scratch: Scratch) -> None:
        target = out[part]
        wide = target.float()  # the same memory if it is float32
        spare = torch.empty(student.shape[1], numba_kernels.WIDTH).numpy()
        numba_kernels.gradient(*walk.arguments(part), *numbers, *scratch, spare, *_flat(wide))
        if wide is not target:
            target.copy_(wide)

    walk.map(write, kept)
    return out[0].t() if student.dim() == 2 else out.view(student.shape)


class _Walk:
    """The chunks of logits seen as (N, C, L)."""

    def __init__(self, student: Tensor, teacher: Tensor, valid: Tensor | None, relation: Relation) -> None:
        self.student, self.teacher = _places_last(student.detach()), _places_last(teacher)
        images, classes, places = self.student.shape
        # A byte for each row, (N, L).
        self.keep = None if valid is None else valid.reshape(images, places).view(torch.uint8)
        self.numbers = relation.activation == "softmax", np.float32(1 / relation.tau), np.float32(relation.eps)
        self.rows = images * places
        rows = max(1, (CHUNK if student.dtype == torch.float32 else HALF_CHUNK) // classes)
        by_image, by_place = min(images, max(1, rows // places)), min(places, rows)
        self.parts = [
            (slice(image, image + by_image), slice(None), slice(place, place + by_place))
            for image in range(0, images, by_image)
            for place in range(0, places, by_place)
        ]

    def map(self, function: Callable[[Part, Scratch], T], scratch: Scratch | None) -> list[T]:
        """Return function(part, scratch) for each part, in order; each thread has its own scratch if none is given."""

        def start() -> Callable[[Part], T]:
            own = scratch or _scratch(self.student.shape[1])
            return lambda part: function(part, own)

        return in_threads(start, self.parts, self.student.device)

    def arguments(self, part: Part) -> tuple[Any, ...]:
        """Return the arguments that all kernels begin with."""
        student, teacher = self.student[part].float(), self.teacher[part].float()
        keep = np.empty(0, np.uint8) if self.keep is None else self.keep[part[::2]].reshape(-1).numpy()
        return *_flat(student), *_flat(teacher), keep, student.shape[0] * student.shape[2], *self.numbers

    def shift(self) -> Values:
        """Return the mean (2, C) of some rows that count: p - shift fits float32, and is 0 in a constant column."""
        images, classes, places = self.student.shape
        every_image, every_place = terms.sample_strides(images, places)
        total, scratch = np.zeros((2, classes)), _scratch(classes)
        some = slice(None, None, every_image), slice(None), slice(None, None, every_place)
        count = numba_kernels.means(*self.arguments(some), *scratch, total)
        if not count and self.keep is not None:  # then the first that counts, if there is one
            image, place = divmod(int(self.keep.reshape(-1).argmax()), places)
            one = slice(image, image + 1), slice(None), slice(place, place + 1)
            count = numba_kernels.means(*self.arguments(one), *scratch, total)
        return (total / max(count, 1)).astype(np.float32)


def _scratch(classes: int, rows: int = 1) -> Scratch:
    """Return scratch for so many rows at once."""
    tiles = -(-rows // numba_kernels.LANES)
    p, q = torch.empty(2, tiles, classes, numba_kernels.WIDTH).numpy()
    return p, q, torch.empty(tiles, numba_kernels.VECTORS * numba_kernels.WIDTH).numpy()


def _flat(logits: Tensor) -> tuple[Values, Layout]:
    """Return the memory from the first to the last value, and its layout: see numba_kernels._load."""
    images, classes, places = logits.shape
    by_image, by_class, by_place = logits.stride()
    extent = 1 + (images - 1) * by_image + (classes - 1) * by_class + (places - 1) * by_place
    if places == 1:  # rows side by side are one image, whose places are all of them
        places, by_place = images, by_image
    elif by_image == places * by_place:
        places *= images
    return logits.as_strided((extent,), (1,)).numpy(), (places, by_image, by_class, by_place)


def _places_last(logits: Tensor) -> Tensor:
    """Return (R, C) as (1, C, R), (N, C, *spatial) as (N, C, L)."""
    return logits.t().unsqueeze(0) if logits.dim() == 2 else logits.flatten(2)
