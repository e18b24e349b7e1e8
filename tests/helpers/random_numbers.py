"""Random weights without drawing each: it is an eighth of the tests' time, as most models are drawn twice."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

LEAST = 4096  # numbers, below which drawing is as fast
DRAWN = 2**22
NORMAL = torch.randn(DRAWN, generator=torch.Generator().manual_seed(0))
UNIFORM = torch.rand(DRAWN, generator=torch.Generator().manual_seed(1))


def draw_once(patch: Callable[..., None] = setattr) -> None:
    """Let many random numbers be a window, placed by the seed, of numbers that are there; in this process.

    Args:
        patch: monkeypatch.setattr in a process that goes on.
    """
    patch(Tensor, "normal_", _from_a_window(Tensor.normal_, NORMAL, lambda mean, std: (std, mean)))
    patch(Tensor, "uniform_", _from_a_window(Tensor.uniform_, UNIFORM, lambda low, high: (high - low, low)))


def _from_a_window(
    draw: Callable[..., Tensor], numbers: Tensor, scale_and_shift: Callable[[float, float], tuple[float, float]]
) -> Callable[..., Tensor]:
    """Return a method of tensors like draw.

    Args:
        scale_and_shift: of the numbers, by the two arguments of the method.
    """

    def fill(tensor: Tensor, *given: float, **named: Any) -> Tensor:
        plain = type(tensor) in (Tensor, torch.nn.Parameter) and tensor.is_contiguous() and tensor.is_cpu
        if not plain or tensor.numel() < LEAST or tensor.dtype != torch.float32 or {*named} - {"generator"}:
            return draw(tensor, *given, **named)
        scale, shift = scale_and_shift(*given, *(0.0, 1.0)[len(given) :])
        for part in tensor.detach().view(-1).split(DRAWN // 2):
            begin = torch.randint(DRAWN - len(part), (), **named).item()
            torch.mul(numbers[begin : begin + len(part)], scale, out=part).add_(shift)
        return tensor

    return fill
