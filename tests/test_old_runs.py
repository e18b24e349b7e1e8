"""Run folders from before there were IMPORTS and TASK: their names are kept, and they go on as if nothing had been."""

from pathlib import Path

import pytest
import torch
import yaml

import densedist
from helpers import scenes, tiny

NEW_KEYS = ("IMPORTS", "TASK", "CUDNN_BENCHMARK")
# What a checkpoint held then, and what each part of it was called.
TRAINER = {
    "iteration": 1,
    "hooks": {"Clock": ["seconds"], "LRScheduler": ["base_lrs", "last_epoch"]},
    "optimizer": ["param_groups", "state"],
    "scaler": [],
    "seed": 3,
    "skipped": 0,
}
MIMIC = [f"mimic.{number}.{part}" for number in range(4) for part in ("weight", "bias")]
AUX_HEAD = ["0.weight", *(f"1.{part}" for part in ("weight", "bias", "running_mean", "running_var"))]
AUX_HEAD += ["1.num_batches_tracked", "4.weight", "4.bias"]
RUNS = {
    "seg": (scenes, scenes.STUDENT, scenes.TEACHER, ["MODEL.AUX_HEAD.ENABLED", "True"], {"aux_head": AUX_HEAD}),
    "rcnn": (tiny, tiny.STUDENT, tiny.TEACHER, [], {}),
    "retinanet": (
        tiny,
        tiny.DIGITS / "retinanet_r10_quarter.yaml",
        tiny.DIGITS / "retinanet_r10t.yaml",
        [],
        {"loss_normalizer": ["value"]},
    ),
}


@pytest.fixture(params=RUNS)
def run(request, tmp_path):
    """A run of four iterations, and what its checkpoints have beside the usual."""
    side, student, teacher, more, extra = RUNS[request.param]
    words = [*side.SMALL, *more, *side.save_teacher(tmp_path / "teacher", file=teacher)]
    words += ["DISTILL.MIMIC.WEIGHT", "1.0", "SOLVER.EMA_DECAY", "0.5", "SEED", "3", "TEST.EXAMPLES", "0"]
    words += ["SOLVER.MAX_ITER", "4", "SOLVER.CHECKPOINT_PERIOD", "2", "DATASETS.TEST", "[]"]
    densedist.train(str(student), [*words, "OUTPUT_DIR", str(tmp_path / "run")])
    adapters = MIMIC[:2] if request.param == "seg" else MIMIC
    return tmp_path / "run", {"adapters": adapters, **extra}


def load(file):
    return torch.load(file, weights_only=True)


def test_old_runs_resume_and_end_in_the_same_weights(run):
    folder, beside = run
    end = load(folder / "model_final.pth")
    cut = load(folder / "model_0000001.pth")
    assert sorted(cut) == sorted(["model", "trained", "trainer", "iteration", *beside])
    assert {name: list(cut[name]) for name in beside} == beside
    assert {key: _shape(value) for key, value in cut["trainer"].items()} == TRAINER
    _make_old(folder)
    densedist.train(str(folder / "config.yaml"), resume=True)
    assert "Starting training from iteration 2" in (folder / "log.txt").read_text()
    again = load(folder / "model_final.pth")
    for part in ("model", "trained", *beside):
        torch.testing.assert_close(again[part], end[part], rtol=0, atol=0)


def _shape(value):
    """The names in a dict, and those in its dicts if it is that of the hooks."""
    if isinstance(value, dict):
        return {hook: sorted(state) for hook, state in value.items()} if "Clock" in value else sorted(value)
    return value


def _make_old(folder: Path) -> None:
    """Killed after iteration 1, with the keys that there were then."""
    content = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump({k: v for k, v in content.items() if k not in NEW_KEYS}))
    (folder / "model_final.pth").unlink()
    (folder / "model_0000003.pth").unlink(missing_ok=True)
    (folder / "last_checkpoint").write_text("model_0000001.pth")
