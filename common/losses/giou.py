"""Generalized IoU of pairs of boxes."""

import torch
from torch import Tensor

EPS = 1e-7  # torchvision's: a box without area has no NaN


def giou_distance(first: Tensor, second: Tensor) -> Tensor:
    """1 - generalized IoU (Rezatofighi et al., CVPR 2019), 0 to 2, of each pair.

    The values and gradients of torchvision.ops.generalized_box_iou_loss, which picks the pairs that meet by their
    numbers, so that a GPU is waited for in every step.

    Args:
        first, second: (R, 4), x0, y0, x1, y1.

    Returns:
        (R,)
    """
    common = _area(torch.max(first[:, :2], second[:, :2]), torch.min(first[:, 2:], second[:, 2:]))
    around = _area(torch.min(first[:, :2], second[:, :2]), torch.max(first[:, 2:], second[:, 2:]))
    union = _area(first[:, :2], first[:, 2:]) + _area(second[:, :2], second[:, 2:]) - common
    return 1 - common / (union + EPS) + (around - union) / (around + EPS)


def _area(low: Tensor, high: Tensor) -> Tensor:
    width, height = (high - low).clamp(min=0).unbind(1)
    return width * height
