"""Random logits, masks and features of two sides."""

import torch


def logits_of_both(shape, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return tuple(2 * torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2))


def mask(shape, seed=1):
    rows = shape[:1] + shape[2:]
    return torch.rand(rows, generator=torch.Generator().manual_seed(seed)) < 0.6


def features_of_both(shape, other=None, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    student = torch.randn(shape, generator=generator, dtype=dtype)
    return student, torch.randn(other or shape, generator=generator, dtype=dtype)
