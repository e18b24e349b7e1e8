"""Modules that are changed for a while are afterwards as they were."""

import pytest
import torch
from torch import nn

from densedist.common.modules import eval_mode
from densedist.common.randomness import kept_random_state


def test_parts_that_are_kept_in_eval_mode_stay_in_it():
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Sequential(nn.BatchNorm2d(1), nn.Dropout()))
    model[1][0].eval()
    before = [part.training for part in model.modules()]
    with eval_mode(model):
        assert not any(part.training for part in model.modules())
    assert [part.training for part in model.modules()] == before == [True, True, True, False, True]


def test_whatever_happens_the_modes_come_back():
    model = nn.Sequential(nn.BatchNorm2d(1)).eval()
    model[0].train()
    with pytest.raises(RuntimeError), eval_mode(model):
        raise RuntimeError
    assert not model.training
    assert model[0].training


@pytest.mark.parametrize(("device", "touched"), [("cpu", []), ("cuda", ["cuda"]), ("cuda:3", ["cuda:3"])])
def test_no_other_gpu_is_touched_for_its_random_state(monkeypatch, device, touched):
    """To read the state of a GPU is to begin using it, with some hundred MB of its memory."""
    read, written = [], []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda which: read.append(str(which)))
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda _, which: written.append(str(which)))
    state = torch.get_rng_state()
    with kept_random_state(device):
        torch.rand(3)
    assert torch.equal(torch.get_rng_state(), state)
    assert (read, written) == (touched, touched)
