"""One key seeds Python, NumPy and PyTorch."""

import random

import numpy as np
import torch

from densedist.common.randomness import seed_all


def test_a_key_decides_all_numbers():
    drawn = []
    for key in [(3, 7), (3, 7), (3, 8)]:
        seed_all(*key)
        drawn.append((random.random(), np.random.rand(), float(torch.rand(()))))
    assert drawn[0] == drawn[1]
    assert all(a != b for a, b in zip(drawn[1], drawn[2], strict=True))


def test_pytorch_has_the_numbers_of_manual_seed():
    seed_all(5)
    ours = torch.rand(4)
    torch.manual_seed(int(np.random.SeedSequence([5]).generate_state(4)[1]))
    assert torch.equal(torch.rand(4), ours)


def test_devices_in_use_are_seeded(monkeypatch):
    seeds = []
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    seed_all(5)
    assert seeds == [int(np.random.SeedSequence([5]).generate_state(4)[1])]
