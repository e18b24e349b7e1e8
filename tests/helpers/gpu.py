"""For tests that show what only a GPU can.

GPU_TESTS_ON=cpu uv run pytest -m gpu runs them on the CPU, to see that they run; what CUDA alone has is skipped there.
"""

import os
import warnings

import pytest
import torch

DEVICE = os.environ.get("GPU_TESTS_ON", "cuda")
FOUND = torch.cuda.is_available()
WHY = "needs a GPU: PyTorch finds none"
MARKS = [pytest.mark.gpu, pytest.mark.skipif(DEVICE == "cuda" and not FOUND, reason=WHY)]
NEEDS_CUDA = pytest.mark.skipif(not FOUND, reason=WHY)
ENOUGH = 10**8  # bytes of a test that is to show no more than that it runs


def needs_memory(wanted):
    """Skips the test where the GPU has fewer bytes left."""
    if DEVICE == "cpu":
        free = ENOUGH
    else:
        torch.cuda.empty_cache()
        free = torch.cuda.mem_get_info()[0]
    if free < wanted:
        pytest.skip(f"needs {wanted / 1e9:.1f} GB of memory, {free / 1e9:.1f} are free")


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
