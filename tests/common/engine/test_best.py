"""By which evaluation the best student is kept, and what is said of it."""

import logging
import math
from types import SimpleNamespace

import pytest
import torch
from detectron2.utils.events import EventStorage
from torch import nn

from densedist.common.engine.hooks import KeepBest
from densedist.common.engine.run_folder import CompleteCheckpointer
from densedist.common.run_files import BEST


@pytest.fixture
def run(tmp_path):
    """A run of 3 iterations with an evaluation after each: (values of each metric, the one that counts, start)."""

    def call(values, metric="t/bbox/AP", start=0):
        hook = KeepBest(CompleteCheckpointer(nn.Linear(1, 1), str(tmp_path)), metric)
        with EventStorage(start) as storage:
            hook.trainer = SimpleNamespace(storage=storage, iter=start, start_iter=start, max_iter=start + 3)
            hook.before_train()
            for number in range(3):
                hook.trainer.iter = storage.iter = start + number
                for name, numbers in values.items():
                    storage.put_scalar(name, numbers[number], smoothing_hint=False)
                hook.after_step()
            hook.trainer.iter += 1
            hook.after_train()
        file = tmp_path / BEST
        return torch.load(file, weights_only=True) if file.is_file() else None

    return call


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO, "densedist")
    return lambda: [record.getMessage() for record in caplog.records if "Saving" not in record.getMessage()]


def test_best_is_that_of_the_metric(run, said):
    best = run({"t/bbox/AP": [10.0, 30.0, 20.0], "u/bbox/AP": [90.0, 0.0, 95.0]})
    assert (best["metric"], best["iteration"]) == ({"t/bbox/AP": 30.0}, 1)
    assert said() == []


def test_undefined_is_never_the_best(run):
    best = run({"t/bbox/AP": [math.nan, 0.0, math.nan]})
    assert (best["metric"], best["iteration"]) == ({"t/bbox/AP": 0.0}, 1)


@pytest.mark.parametrize("values", [{"t/bbox/AP": [math.nan] * 3}, {"u/bbox/AP": [1.0, 2.0, 3.0]}, {}])
def test_no_best_is_said(run, said, values):
    assert run(values) is None
    assert said() == [f"no {BEST}: t/bbox/AP was not defined in any evaluation"]


def test_a_best_by_another_metric_does_not_count_after_a_resume(run):
    run({"bbox/AP": [50.0, 60.0, 70.0]}, "bbox/AP")
    best = run({"t/bbox/AP": [10.0, 30.0, 20.0]}, start=3)
    assert (best["metric"], best["iteration"]) == ({"t/bbox/AP": 30.0}, 4)
