"""Memory in huge pages, where Linux has them on demand."""

import ctypes
import mmap
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

LARGE = 1 << 22  # bytes
HUGE_PAGE = 1 << 21


def empty_like(tensor: Tensor) -> Tensor:
    """Return torch.empty_like(tensor); a large one lies in huge pages, where there are any: they fill faster."""
    out = torch.empty_like(tensor)
    size = out.numel() * out.element_size()
    advise = _advise() if out.device.type == "cpu" and size >= LARGE else None
    if advise:
        start = -(-out.data_ptr() // HUGE_PAGE) * HUGE_PAGE
        advise(start, (out.data_ptr() + size - start) // HUGE_PAGE * HUGE_PAGE, mmap.MADV_HUGEPAGE)
    return out


@cache
def _advise() -> Callable[[int, int, int], int] | None:
    """Return the C library's madvise(address, bytes, advice), which mmap has for its own memory only."""
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    return advise
