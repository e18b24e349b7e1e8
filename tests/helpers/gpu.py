"""For tests that only a GPU can pass."""

import warnings

import pytest
import torch

DEVICE = "cuda"
MARKS = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: PyTorch finds none")]


def needs_memory(wanted):
    """Skips the test where the GPU has fewer bytes left."""
    torch.cuda.empty_cache()
    if (free := torch.cuda.mem_get_info()[0]) < wanted:
        pytest.skip(f"needs {wanted / 1e9:.0f} GB of GPU memory, {free / 1e9:.0f} are free")


def waits_of(step):
    """For how many operations a step makes the program wait."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return [str(w.message) for w in seen if "synchroniz" in str(w.message)]
