"""DIST with its gradient in closed form: two passes over the logits, nothing of their size kept between them."""

from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from densedist.common.distributed import sum_over_processes
from densedist.common.losses.dist import blocks
from densedist.common.losses.dist.terms import Relation, Slopes
from densedist.common.losses.dist.threads import one_thread


def dist(student: Tensor, teacher: Tensor, valid: Tensor | None, relation: Relation, sync: bool) -> Tensor:
    """Return the loss of DISTLoss for checked input: 0-dim, float32 (float64 for float64 logits)."""
    return _DIST.apply(student, teacher, valid, relation, sync)


class _DIST(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, student: Tensor, teacher: Tensor, valid: Tensor | None, relation: Relation, sync: bool
    ) -> Tensor:
        passes = _passes(student)
        sums, ctx.kept = passes.sums(student, teacher, valid, relation)
        sums = sums.over_processes() if sync else sums
        with one_thread():
            loss, slopes = passes.finish(sums, relation)
        ctx.save_for_backward(student, teacher, valid, *slopes)
        ctx.relation, ctx.sync = relation, sync
        return loss if student.dtype == torch.float64 else loss.float()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        student, teacher, valid, *numbers = ctx.saved_tensors
        if ctx.sync:  # every process has this loss, and the rows here are in all of them
            upstream = sum_over_processes(upstream)
        slopes = Slopes(*numbers)
        gradient = _passes(student).gradient(student, teacher, valid, ctx.relation, slopes, upstream, ctx.kept)
        return gradient, None, None, None, None


def _passes(logits: Tensor) -> ModuleType:
    """Return the module that implements the two passes, sums and gradient, and what is between them, finish."""
    kernels = _kernels(logits.device.type)
    return kernels if kernels and kernels.can(logits) else blocks


@cache
def _kernels(device: str) -> ModuleType | None:
    """Import the kernels for a type of device, when the first loss is computed; None without what compiles them."""
    if device == "cuda" and find_spec("triton"):
        from densedist.common.losses.dist import triton_backend

        return triton_backend
    if device == "cpu" and find_spec("numba"):
        with suppress(ImportError):  # Numba's, with a version of NumPy that it does not support
            from densedist.common.losses.dist import numba_backend

            return numba_backend
    return None
