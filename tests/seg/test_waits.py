"""A step of training never makes the program wait for its device, but once, for the values of the losses."""

import copy
from importlib.util import find_spec

import pytest
import torch
from detectron2.utils.events import EventStorage

from benchmarks.waits import waits
from densedist.common.engine.trainer import Trainer, on_device
from densedist.common.losses.dist import blocks, closed_form
from densedist.seg.models import build_segmenter
from helpers.scenes import STUDENT, batch, config, save_teacher

ALL = ("DIST", "KD", "CWD", "MIMIC", "PKD", "ATTENTION", "MGD", "RKD", "DKD", "CIRKD", "AFDCD")
ON = [x for name in ALL for x in (f"DISTILL.{name}.WEIGHT", "1.0")]


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Losses as there: in PyTorch, not in Numba."""
    monkeypatch.setattr(closed_form, "_passes", lambda logits: blocks)


def segmenter(folder, *overrides):
    torch.manual_seed(0)
    return build_segmenter(config(STUDENT, *save_teacher(folder), *ON, *overrides)).train()


@pytest.mark.usefixtures("as_on_a_gpu")
def test_one_wait_in_a_step_of_segmentation(tmp_path, monkeypatch):
    model, samples = segmenter(tmp_path), [*batch(), *batch()]
    del samples[1]["sem_seg"]  # an image without labels
    trainer = Trainer(model, torch.optim.SGD(model.parameters()), teacher=model.distillation.teacher)
    trainer.reset_data_loader(lambda: [copy.deepcopy(samples) for _ in range(3)])
    monkeypatch.setattr(trainer, "_write_metrics", lambda losses, _: None)  # of numbers that are there
    lists, read = [], torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda x: lists.append(tuple(x.shape)) or read(x))
    trainer.max_iter, trainer.iter = 1000, 1  # not one of the few that look at gradients
    with EventStorage(), waits() as seen:
        trainer.run_step()
    assert seen == []
    assert lists == [(1 + len(ALL),)]


def test_waits_are_seen():
    x = torch.arange(6.0)
    with waits() as seen:
        float(x[0])
        x[x > 2]
        torch.nonzero(x)
    assert seen == ["_local_scalar_dense", "index", "nonzero"]


def test_a_batch_on_another_device():
    image = torch.zeros(3, 4, 5, dtype=torch.uint8)
    sample = {"image": image, "teacher": {"a": image}, "boxes": (image, [image]), "name": "x", "height": 4}
    (moved,) = on_device([sample], torch.device("meta"))
    tensors = [moved["image"], moved["teacher"]["a"], moved["boxes"][0], moved["boxes"][1][0]]
    assert {x.device.type for x in tensors} == {"meta"}
    assert (moved["name"], moved["height"]) == ("x", 4)
    (same,) = on_device([sample], torch.device("cpu"))
    assert same["image"] is image


@pytest.mark.skipif(not find_spec("numba"), reason="needs Numba")
def test_the_losses_on_a_cpu_may_read_numbers(tmp_path):
    """What the first test would see without its fixture."""
    model = segmenter(tmp_path)
    with waits() as seen:
        sum(model(batch()).values()).backward()
    assert "_local_scalar_dense" in seen
