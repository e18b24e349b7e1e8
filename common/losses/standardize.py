"""Logit standardization: both sides' logits are compared whatever their range is."""

import torch
from torch import Tensor

from densedist.common.losses.channels import ROUNDING

EPS = 1e-7  # added to the deviation, as in the authors' code


def standardize(logits: Tensor) -> Tensor:
    """The z-score of each row, to be divided by the temperature: Sun et al., CVPR 2024, Algorithm 1.

    The deviation is the root of the mean square, as in the paper; the authors' code divides the squares by C - 1.

    Args:
        logits: (R, C) or (N, C, *spatial), float32 or float64.

    Returns:
        of the same shape, with mean 0 and mean square 1 over the C; zeros, with gradient zero, where all C are equal,
        but for the rounding of their mean: divided by itself it would give a gradient a million times too large.
    """
    mean = logits.mean(1, keepdim=True)
    centered = logits - mean
    variance = centered.square().mean(1, keepdim=True)
    constant = variance <= (ROUNDING * torch.finfo(logits.dtype).eps * mean).square()  # the root of 0 has no gradient
    deviation = variance.masked_fill(constant, 1).sqrt()
    return centered.masked_fill(constant, 0) / (deviation + EPS)
