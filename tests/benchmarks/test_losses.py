"""The benchmarks measure what they say. How fast anything is depends on the machine and is asserted nowhere."""

import json
import time
from dataclasses import replace

import pytest
import torch

from benchmarks import losses
from densedist.common.profile import busy_core, extra_bytes, medians

CPU = torch.device("cpu")


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_losses_beside_their_formulas(monkeypatch, tmp_path, capsys):
    little = losses.Case("DIST on little", (64, 9), *losses.SOFTMAX)
    monkeypatch.setattr(losses, "CASES", (little,))
    monkeypatch.setattr(losses, "BUSY_CASES", (replace(little, name="and two busy", busy=2),))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    losses.main(torch.device("cpu"), tmp_path / "figures.json")
    printed = capsys.readouterr().out
    assert "DIST on little (64, 9), float32" in printed
    assert "and two busy (64, 9), float32" in printed
    result, busy = json.loads((tmp_path / "figures.json").read_text())["results"]
    for figures in ("seconds", "memory", "loss_error", "gradient_error"):
        assert result[figures].keys() == busy[figures].keys() == {"ours", "formula"}
    assert result["loss_error"]["ours"] < 1e-6
    assert result["gradient_error"]["ours"] < 1e-6


def test_extra_bytes_are_those_of_the_worst_moment():
    def step():
        for _ in range(3):
            torch.ones(1000) + torch.ones(1000)  # three tensors of 4000 bytes at a time

    assert extra_bytes(step, CPU) == pytest.approx(12_000, rel=0.1)


def test_extra_bytes_are_counted_in_one_thread(two_threads):
    seen = []
    extra_bytes(lambda: seen.append(torch.get_num_threads()), CPU)
    assert [*seen, torch.get_num_threads()] == [1, 2]


def test_busy_core_is_free_again():
    with busy_core() as process:
        assert process.poll() is None
    assert process.poll() is not None


def test_medians_of_steps_that_take_turns():
    seen = []
    steps = {name: lambda name=name: seen.append(name) or time.sleep(0.01) for name in ("a", "b")}
    times = medians(steps, CPU)
    assert seen[:4] == ["a", "b", "a", "b"]
    assert times.keys() == {"a", "b"}
    assert min(times.values()) >= 0.01
