"""The benchmarks measure what they say. How fast anything is depends on the machine and is asserted nowhere."""

import json
import time

import pytest
import torch

from densedist.common.benchmark import losses
from densedist.common.benchmark.measure import extra_bytes, medians

CPU = torch.device("cpu")


def test_losses_beside_their_formulas(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(losses, "CASES", (losses.Case("DIST on little", (64, 9), *losses.SOFTMAX),))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    losses.main(tmp_path / "figures.json")
    assert "DIST on little (64, 9), float32" in capsys.readouterr().out
    (result,) = json.loads((tmp_path / "figures.json").read_text())["results"]
    for figures in ("seconds", "memory", "loss_error", "gradient_error"):
        assert result[figures].keys() == {"ours", "formula"}
    assert result["loss_error"]["ours"] < 1e-6
    assert result["gradient_error"]["ours"] < 1e-6


def test_extra_bytes_are_those_of_the_worst_moment():
    def step():
        for _ in range(3):
            torch.ones(1000) + torch.ones(1000)  # three tensors of 4000 bytes at a time

    assert extra_bytes(step, CPU) == pytest.approx(12_000, rel=0.1)


def test_medians_of_steps_that_take_turns():
    seen = []
    steps = {name: lambda name=name: seen.append(name) or time.sleep(0.01) for name in ("a", "b")}
    times = medians(steps, CPU)
    assert seen[:4] == ["a", "b", "a", "b"]
    assert times.keys() == {"a", "b"}
    assert min(times.values()) >= 0.01
