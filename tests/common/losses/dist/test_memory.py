"""Large tensors in huge pages are like any other."""

import pytest
import torch

from densedist.common.losses.dist import memory


@pytest.mark.parametrize("size", [3, 1 << 10])
def test_like_the_tensor(size):
    """Of few bytes, and of so many that huge pages are asked for."""
    tensor = torch.zeros(2, 3, size, size).to(memory_format=torch.channels_last)
    out = memory.empty_like(tensor).fill_(1)
    assert (out.shape, out.stride(), out.dtype) == (tensor.shape, tensor.stride(), tensor.dtype)
    assert out.sum() == out.numel()


def test_where_the_system_has_none(monkeypatch):
    monkeypatch.delattr(memory.mmap, "MADV_HUGEPAGE", raising=False)
    memory._advise.cache_clear()
    assert memory._advise() is None
    assert memory.empty_like(torch.zeros(1 << 21)).shape == (1 << 21,)
    memory._advise.cache_clear()
