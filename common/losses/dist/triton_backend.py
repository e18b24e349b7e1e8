"""DIST's passes over the logits as Triton kernels: each reads the logits once, in whatever order they lie."""

from typing import Any

import torch
import triton
from torch import Tensor

from densedist.common.losses.dist import triton_kernels
from densedist.common.losses.dist.terms import TINY, Relation, Slopes, Sums

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
MAX_CLASSES = 4096  # a tile of so many fits the registers
TILE = 256  # values that a warp takes at a time, 8 in each lane, which then has registers for sums over the places
# What a thread may have, and how many warps then fit a multiprocessor of any GPU since Ampere: the grid is so large.
REGISTERS, RESIDENT = 128, 16
SAMPLE, SAMPLE_WARPS = 64, 8  # rows whose mean is the shift, and the warps that read them
SAMPLE_TILE = 1 << 13  # values, or fewer rows


def can(logits: Tensor) -> bool:
    """Return whether the kernels take such logits: not float64, not more than MAX_CLASSES."""
    return logits.dtype in DTYPES and logits.shape[1] <= MAX_CLASSES


def sums(student: Tensor, teacher: Tensor, valid: Tensor | None, relation: Relation) -> tuple[Sums, None]:
    """Return the sums that the loss needs; nothing is kept for the gradient. Arguments as in blocks.sums."""
    launch, classes = _Launch(student, teacher, valid, relation), student.shape[1]
    shift = torch.empty(2, classes, device=student.device)
    partial = torch.empty(launch.programs, 5 * classes + 2, device=student.device)
    launch.one(triton_kernels.shift, shift)
    launch.all(triton_kernels.sums, shift, partial)
    total = partial.sum(0, dtype=torch.float64)
    means, moments = total.new_empty(2, classes), total.new_empty(3, classes)
    _start_small(triton_kernels.center, classes, total, shift, means, moments)
    return Sums(total[-2], total[-1], means, moments), None


def finish(sums: Sums, relation: Relation) -> tuple[Tensor, Slopes]:
    """Return the loss (0-dim, float32) and its gradient's coefficients: terms.finish in one kernel."""
    beta, gamma, tau, _, eps = relation
    classes = sums.means.shape[1]
    loss = torch.empty((), device=sums.means.device)
    own, other, row = (sums.means.new_empty(shape) for shape in (classes, classes, ()))
    weights = tau**2 * beta, tau**2 * gamma, -tau * gamma / classes, -tau * beta
    read = sums.rows, sums.correlation, sums.moments
    _start_small(triton_kernels.finish, classes, *read, *weights, eps, TINY, loss, own, other, row)
    return loss, Slopes(sums.means, own, other, row)


def gradient(
    student: Tensor,
    teacher: Tensor,
    valid: Tensor | None,
    relation: Relation,
    slopes: Slopes,
    upstream: Tensor,
    kept: None = None,
) -> Tensor:
    """Return the loss's gradient with respect to the student's logits, of their shape and dtype. Arguments as in
    blocks.gradient."""
    launch = _Launch(student, teacher, valid, relation)
    out = torch.empty_like(launch.student)
    launch.all(triton_kernels.gradient, *slopes, upstream, out, *out.stride(), TINY)
    return out[0].t() if student.dim() == 2 else out.view(student.shape)


class _Launch:
    """Starts the kernels on the logits seen as (N, C, L), in tiles of all C classes and a few of L places."""

    def __init__(self, student: Tensor, teacher: Tensor, valid: Tensor | None, relation: Relation) -> None:
        self.student, teacher = _places_last(student), _places_last(teacher)
        images, classes, places = self.student.shape
        self.rows, self.class_block = images * places, triton.next_power_of_2(classes)
        self.place_block = max(1, TILE // self.class_block)
        self.warps = max(1, self.class_block * self.place_block // TILE)
        blocks = triton.cdiv(places, self.place_block)
        tiles = images * blocks
        self.programs = min(tiles, max(1, RESIDENT // self.warps) * _processors(student))
        keep = None if valid is None else valid.contiguous().view(torch.uint8)
        inputs = self.student, *self.student.stride(), teacher, *teacher.stride(), keep
        self.arguments = (*inputs, places, blocks, tiles, 1 / relation.tau, relation.eps)
        self.constants = {
            "C": classes,
            "CLASSES": self.class_block,
            "SOFTMAX": relation.activation == "softmax",
            "FAR": max(_extent(self.student), _extent(teacher), classes * places) >= 2**31,
        }

    def all(self, kernel: Any, *more: Any) -> None:
        """Run as many programs as there is room for, each with its share of the tiles."""
        self._start(kernel, self.programs, more, PLACES=self.place_block, num_warps=self.warps, maxnreg=REGISTERS)

    def one(self, kernel: Any, *more: Any) -> None:
        """Run one program, with rows from all over the logits."""
        sample = max(1, min(SAMPLE, SAMPLE_TILE // self.class_block))
        step = triton.cdiv(self.rows, sample) | 1  # odd, so that it is seldom a multiple of an image's width
        self._start(kernel, 1, (*more, self.rows, step), PLACES=sample, num_warps=SAMPLE_WARPS)

    def _start(self, kernel: Any, programs: int, more: tuple[Any, ...], **constants: int) -> None:
        with torch.cuda.device_of(self.student):
            kernel[(programs,)](*self.arguments, *more, **self.constants, **constants)


def _start_small(kernel: Any, classes: int, first: Tensor, *more: Any) -> None:
    """Run a kernel of one program, which reads and writes a few numbers of each class."""
    with torch.cuda.device_of(first):
        kernel[(1,)](first, *more, C=classes, CLASSES=triton.next_power_of_2(classes))


def _places_last(logits: Tensor) -> Tensor:
    """Return (R, C) as (1, C, R), (N, C, *spatial) as (N, C, L)."""
    return logits.t().unsqueeze(0) if logits.dim() == 2 else logits.flatten(2)


def _extent(logits: Tensor) -> int:
    """Return how far from the first value of an image its last one lies."""
    return sum((size - 1) * step for size, step in zip(logits.shape[1:], logits.stride()[1:], strict=True))


def _processors(logits: Tensor) -> int:
    return torch.cuda.get_device_properties(logits.device).multi_processor_count if logits.is_cuda else 1
