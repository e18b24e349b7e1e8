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
        return gradient * factors.view(-1, *[1] * (gradient.dim() - 1)), None


def scale_gradient(x: Tensor, factors: Sequence[float]) -> Tensor:
    """Return x; on its way back, the gradient of each image is multiplied by that image's factor.

    So one loss on all images of a batch can count some of them more or less, whatever it does with the batch.

    Args:
        x: (N, *).
        factors: N.
    """
    return _ScaleGradient.apply(x, x.new_tensor(factors))
