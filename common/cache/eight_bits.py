"""Class logits in 8 bits: how far a class is below the highest one, in steps that grow with the distance.

A softmax depends on nothing but these distances, and most on the small ones, of the likely classes.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

MOVED = 0.01  # by how much a class probability may be another one, at temperature 1
LINEAR = 0.25  # up to about this distance all steps are alike; beyond, each is larger than the last by a fixed factor
_LARGEST = 255
_HEADER = np.dtype(np.float32).itemsize


def size_in_bytes(shape: Sequence[int]) -> int:
    """Return the bytes that pack() needs for logits of a shape."""
    return _HEADER + int(np.prod(shape))


def pack(logits: Tensor) -> np.ndarray:
    """Pack logits into 8 bits each.

    Args:
        logits: (C, ...), C classes, finite.

    Returns:
        bytes, uint8: the largest distance, then a code for each logit.
    """
    logits = logits.float().cpu()
    below = logits.amax(0, keepdim=True) - logits
    farthest = below.max()
    codes = (torch.log1p(below / LINEAR) / _step(farthest)).round().to(torch.uint8)
    return np.concatenate([farthest.numpy().reshape(1).view(np.uint8), codes.flatten().numpy()])


def unpack(packed: np.ndarray, shape: Sequence[int]) -> Tensor:
    """Return logits (C, ...), float16, of which the highest at each place is 0."""
    farthest = torch.tensor(packed[:_HEADER].view(np.float32)[0])
    distances = LINEAR * torch.expm1(torch.arange(_LARGEST + 1) * _step(farthest))
    # Two values of float16 may be farther apart than its largest one.
    table = (-distances).clamp(min=torch.finfo(torch.float16).min).half()
    return torch.from_numpy(table.numpy()[packed[_HEADER:]]).reshape(*shape)


def moved(logits: Tensor, packed: np.ndarray) -> float:
    """Return the largest difference between class probabilities of logits and of what is kept of them, at temperature
    1."""
    kept = unpack(packed, logits.shape).float()
    return (logits.float().cpu().softmax(0) - kept.softmax(0)).abs().max().item()


def _step(farthest: Tensor) -> Tensor:
    """Return the step between two codes, of log(1 + distance / LINEAR)."""
    return (torch.log1p(farthest / LINEAR) / _LARGEST).clamp(min=torch.finfo(torch.float32).tiny)
