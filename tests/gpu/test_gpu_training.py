"""Training on a GPU: precisions, resuming, several processes, and how often a step waits."""

import copy
import json
import math

import pytest
import torch
from detectron2.utils.events import EventStorage

from densedist.common.engine.trainer import Trainer
from densedist.seg.models import build_segmenter
from helpers import scenes, tiny
from helpers.calling import densedist
from helpers.gpu import DEVICE, MARKS, NEEDS_CUDA, waits_of

pytestmark = MARKS
GPU = ["MODEL.DEVICE", DEVICE, "CUDNN_BENCHMARK", "False"]
SEG = ["--config-file", scenes.STUDENT, *scenes.SMALL, *GPU, "DATASETS.TEST", "['test']"]
DET = ["--config-file", tiny.STUDENT, *tiny.SMALL, *GPU, "DATASETS.TEST", "('digits_test',)"]


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    return {
        "seg": scenes.save_teacher(tmp_path_factory.mktemp("seg")),
        "det": tiny.save_teacher(tmp_path_factory.mktemp("det")),
    }


def train(output, task, teachers, *keys, options=()):
    argv = {"seg": SEG, "det": DET}[task]
    densedist(
        "train", task, *options, *argv[:2], *argv[2:], "SOLVER.MAX_ITER", "6", "SOLVER.CHECKPOINT_PERIOD", "2",
        *teachers[task], *keys, "OUTPUT_DIR", output,
    )  # fmt: skip
    lines = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    return torch.load(output / "model_final.pth", weights_only=True, map_location="cpu"), lines


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("task", ["seg", "det"])
def test_precisions(task, precision, teachers, tmp_path):
    amp = [] if precision == "float32" else ["SOLVER.AMP.ENABLED", "True", "SOLVER.AMP.PRECISION", precision]
    final, lines = train(tmp_path, task, teachers, *amp, "DISTILL.TEACHER.PRECISION", precision)
    assert all(x.isfinite().all() for x in final["model"].values() if x.is_floating_point())
    losses = [line["total_loss"] for line in lines if "total_loss" in line]
    assert losses
    assert all(map(math.isfinite, losses))
    last = torch.load(tmp_path / "model_0000003.pth", weights_only=True, map_location="cpu")
    assert bool(last["trainer"]["scaler"]) == (precision == "float16")


@pytest.mark.parametrize("task", ["seg", "det"])
def test_resume(task, teachers, tmp_path):
    """As near to a run that nothing has cut short as two runs of the same are."""
    whole, again = (train(tmp_path / name, task, teachers)[0]["model"] for name in ("whole", "again"))
    cut = tmp_path / "cut"
    train(cut, task, teachers)
    for file in ("model_final.pth", "model_0000005.pth"):
        (cut / file).unlink(missing_ok=True)
    (cut / "last_checkpoint").write_text("model_0000003.pth")
    resumed = train(cut, task, teachers, options=["--resume"])[0]["model"]
    assert "Starting training from iteration 4" in (cut / "log.txt").read_text()
    for name, wanted in whole.items():
        apart = float((wanted.double() - again[name].double()).abs().max())
        scale = float(wanted.double().abs().max())
        assert float((wanted.double() - resumed[name].double()).abs().max()) <= 10 * apart + 1e-4 * scale, name


@pytest.mark.parametrize("task", ["seg", "det"])
def test_as_many_processes_as_gpus(task, teachers, tmp_path):
    """By NCCL; on one GPU a single process, on the CPU two by gloo."""
    count = torch.cuda.device_count() or 2
    final, _ = train(
        tmp_path, task, teachers, "SOLVER.IMS_PER_BATCH", str(2 * count), "DISTILL.SYNC", "True",
        options=["--num-gpus", str(count)],
    )  # fmt: skip
    assert all(x.isfinite().all() for x in final["model"].values() if x.is_floating_point())
    assert f"{count} process" in (tmp_path / "log.txt").read_text()


@NEEDS_CUDA
@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_one_wait_in_a_step_of_segmentation(precision, teachers, monkeypatch):
    torch.manual_seed(0)
    model = build_segmenter(scenes.config(scenes.STUDENT, *teachers["seg"], "MODEL.DEVICE", DEVICE)).train()
    optimizer = torch.optim.AdamW(model.parameters())
    trainer = Trainer(model, optimizer, precision=precision, teacher=model.distillation.teacher)
    batches = [[{k: x.pin_memory() if torch.is_tensor(x) else x for k, x in s.items()} for s in scenes.batch()]] * 4
    trainer.reset_data_loader(lambda: copy.deepcopy(batches))
    trainer.max_iter = 1000
    with EventStorage():
        for trainer.iter in (1, 2):  # compiles, and finds its memory
            trainer.run_step()
        assert len(waits_of(trainer.run_step)) == 1


@NEEDS_CUDA
@pytest.mark.parametrize("task", ["seg", "det"])
def test_a_teacher_on_a_stream_of_its_own(task, teachers, tmp_path):
    """teaches the same: as near as two runs without it are."""
    one, two = (train(tmp_path / name, task, teachers)[0]["model"] for name in ("one", "two"))
    beside = train(tmp_path / "beside", task, teachers, "DISTILL.TEACHER.STREAM", "True")[0]["model"]
    for name, wanted in one.items():
        apart = float((wanted.double() - two[name].double()).abs().max())
        scale = float(wanted.double().abs().max())
        assert float((wanted.double() - beside[name].double()).abs().max()) <= 10 * apart + 1e-4 * scale, name
