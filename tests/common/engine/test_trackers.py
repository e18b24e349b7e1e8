"""What Weights & Biases and MLflow are told, by libraries that only listen."""

import sys
from types import SimpleNamespace

import pytest
from detectron2.utils.events import EventStorage

from densedist.common.engine.trackers import build_trackers
from densedist.common.errors import UserError
from helpers.tiny import defaults


@pytest.fixture
def cfg():
    cfg = defaults()
    cfg.OUTPUT_DIR = "./output/a"
    return cfg


@pytest.fixture
def told(monkeypatch):
    calls = []
    run = SimpleNamespace(
        log=lambda numbers, step: calls.append((step, numbers)), finish=lambda: calls.append("finished")
    )
    wandb = SimpleNamespace(init=lambda **options: calls.append(options) or run)
    mlflow = SimpleNamespace(
        start_run=lambda run_name: calls.append(run_name),
        log_dict=lambda config, name: calls.append((name, config["SOLVER"]["MAX_ITER"])),
        log_metrics=lambda numbers, step: calls.append((step, numbers)),
        end_run=lambda: calls.append("finished"),
    )
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    return calls


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_numbers_are_sent_once(cfg, told, name):
    cfg.TRACKERS = [name]
    (tracker,) = build_trackers(cfg)
    begun = len(told)
    with EventStorage() as storage:
        storage.put_scalar("loss", 2.0, smoothing_hint=False)
        tracker.write()
        tracker.write()
        storage.step()
        storage.put_scalar("lr", 0.5, smoothing_hint=False)
        tracker.write()
    tracker.close()
    assert told[begun:] == [(0, {"loss": 2.0}), (1, {"lr": 0.5}), "finished"]


def test_runs_are_named_and_have_the_config(cfg, told):
    cfg.TRACKERS = ["wandb", "mlflow"]
    build_trackers(cfg)
    options, name, config = told
    assert (options["id"], options["resume"], options["dir"]) == ("output-a", "allow", "./output/a")
    assert options["config"]["SOLVER"]["MAX_ITER"] == cfg.SOLVER.MAX_ITER
    assert name == "./output/a"
    assert config == ("config.yaml", cfg.SOLVER.MAX_ITER)


def test_what_is_not_there(cfg, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    cfg.TRACKERS = ["wandb"]
    with pytest.raises(UserError, match="TRACKERS: wandb is not installed: install it, or take it out"):
        build_trackers(cfg)
