"""Channels of feature maps, each standardized over images and places."""

from typing import NamedTuple

import torch
from torch import Tensor

from densedist.common.distributed import sum_over_processes

ROUNDING = 16  # in eps of the mean; four times the largest rounding error measured on a constant channel


class Channels(NamedTuple):
    """A map's channels: what is left of them standardized (N, C, H, W), and their means and deviations (1, C, 1, 1)."""

    standardized: Tensor
    mean: Tensor
    deviation: Tensor


def standardize_channels(
    x: Tensor, eps: float, sync: bool = False, correction: int = 0, inside: Tensor | None = None
) -> Channels:
    """Return maps with each channel standardized: its mean taken away, divided by its standard deviation + eps.

    A channel that is constant, but for the rounding of its mean, becomes zeros with gradient zero. Divided by eps, its
    rounding would be a signal, and its gradient a million times too large.

    Args:
        x: (N, C, H, W), float32 or float64.
        eps: added to the deviations, above 0.
        sync: take the images of all processes.
        correction: 1 = the squares are divided by one less than their number.
        inside: bool (N, H, W), False in padding, which does not count and becomes 0; None = no padding.
    """

    def total(values: Tensor) -> Tensor:
        summed = values.sum((0, 2, 3), keepdim=True)
        return sum_over_processes(summed) if sync else summed

    count = x.new_full((), x[:, 0].numel())
    if inside is not None:
        x, count = x.where(inside[:, None], 0), inside.sum().to(x.dtype)
    count = sum_over_processes(count) if sync else count
    mean = total(x) / count
    centered = x - mean
    if inside is not None:
        centered = centered.where(inside[:, None], 0)
    variance = total(centered.square()) / (count - correction).clamp(min=1)
    constant = variance <= (ROUNDING * torch.finfo(x.dtype).eps * mean).square()
    # The root of 0 has no gradient.
    deviation = variance.masked_fill(constant, 1).sqrt().masked_fill(constant, 0)
    return Channels(centered * (deviation + eps).reciprocal().masked_fill(constant, 0), mean, deviation)
