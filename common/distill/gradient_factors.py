"""How much an image counts in training: a factor on its gradient."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factors: Tensor) -> Tensor:
        ctx.save_for_backward(factors)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (factors,) = ctx.saved_tensors
        return gradient * factors, None


def scale_gradient(x: Tensor, factors: Tensor | Sequence[float]) -> Tensor:
    """Return x; on its way back, the gradient is multiplied by factors.

    So one loss on all of a batch can count some of it more or less, whatever it does with the batch.

    Args:
        x: (N, *).
        factors: a number for each image or row, (N,); or of a shape that broadcasts to x's, as (N, 1, H, W).
    """
    factors = torch.as_tensor(factors, dtype=x.dtype, device=x.device)
    return _ScaleGradient.apply(x, factors.view(*factors.shape, *[1] * (x.dim() - factors.dim())))
