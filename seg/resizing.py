"""Between the resolution of logits and that of labels: corner pixels lie on corner pixels."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def resize(logits: Tensor, size: Sequence[int]) -> Tensor:
    """(N, K, h, w) -> (N, K, *size), bilinear with aligned corners."""
    if logits.shape[2:] == torch.Size(size):
        return logits
    return F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=True)


def nearest(labels: Tensor, size: Sequence[int]) -> Tensor:
    """(N, H, W) -> (N, *size): at each place of the smaller grid the label that lies nearest."""
    rows, columns = (
        torch.linspace(0, full - 1, small, device=labels.device).round().long()
        for full, small in zip(labels.shape[1:], size, strict=True)
    )
    return labels[:, rows][:, :, columns]
