"""Numbers that stay the same in a run, such as those of columns, as a tensor that is copied to a device once."""

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=256)
def on_device(numbers: tuple[int, ...], device: torch.device) -> Tensor:
    """Return whole numbers as a tensor (len(numbers),), int64, on a device; nobody may change it."""
    with torch.inference_mode(False):  # what is made within that mode cannot be kept for a backward pass
        return torch.tensor(numbers, dtype=torch.int64, device=device)


def columns_of(x: Tensor, numbers: tuple[int, ...]) -> Tensor:
    """Return some of the columns of (R, C, *): (R, len(numbers), *)."""
    return x.index_select(1, on_device(numbers, x.device))
