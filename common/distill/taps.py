"""From feature maps to samples (R, C) whose relations RKD compares."""

import torch
from torch import Tensor
from torch.nn import functional as F


def per_image(features: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C): the mean over each image."""
    return features.mean((2, 3))


def per_cell(features: Tensor, grid: int = 4) -> Tensor:
    """(N, C, H, W) -> (N·grid·grid, C): the means over the cells of a regular grid."""
    return F.adaptive_avg_pool2d(features, grid).flatten(2).transpose(1, 2).flatten(0, 1)


def per_class(features: Tensor, labels: Tensor) -> Tensor:
    """(N, C, H, W) -> (classes present, C): the mean over all pixels of each class in the batch.

    Args:
        labels: trainIds (N, H, W) at the resolution of the features; 255 does not count.
    """
    pixels, labels = features.movedim(1, -1).flatten(0, 2), labels.flatten()
    counts = labels != 255
    classes, index = labels[counts].unique(return_inverse=True)
    sums = pixels.new_zeros(len(classes), pixels.shape[1]).index_add(0, index, pixels[counts])
    return sums / torch.bincount(index, minlength=len(classes)).unsqueeze(1)


def thin_out(samples: Tensor, most: int) -> Tensor:
    """At most that many of the samples (R, C), evenly spread: RKD's angles cost the cube of their number."""
    if len(samples) <= most:
        return samples
    return samples[torch.linspace(0, len(samples) - 1, most, device=samples.device).round().long()]


#### MERGED FROM common.recording
"""What a module saw and returned, while it is of interest."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from torch import nn

T = TypeVar("T")


@contextmanager
def record(module: nn.Module, keep: Callable[[tuple[Any, ...], Any], T]) -> Iterator[list[T]]:
    """Collect keep(args, output) of every call of module within the block, in order of the calls.

    The graph of what is kept stays whole; the module's output is not changed.
    """
    calls: list[T] = []

    def hook(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        calls.append(keep(args, output))

    handle = module.register_forward_hook(hook)
    try:
        yield calls
    finally:
        handle.remove()
