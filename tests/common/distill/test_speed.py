"""A teacher that is compiled, or runs on a stream of its own, teaches the same."""

import functools

import pytest
import torch
from detectron2.utils.events import EventStorage

from densedist.common.errors import UserError
from densedist.seg.models import build_segmenter
from helpers import scenes, tiny

COMPILE, STREAM = ("DISTILL.TEACHER.COMPILE", "True"), ("DISTILL.TEACHER.STREAM", "True")


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    return {
        "seg": scenes.save_teacher(tmp_path_factory.mktemp("seg"), "MODEL.AUX_HEAD.ENABLED", "True"),
        "det": tiny.save_teacher(tmp_path_factory.mktemp("det")),
    }


def student(task, keys, *overrides):
    torch.manual_seed(0)
    if task == "seg":
        aux = ("MODEL.AUX_HEAD.ENABLED", "True", "DISTILL.MIMIC.WEIGHT", "1.0")
        return build_segmenter(scenes.config(scenes.STUDENT, *keys, *aux, *overrides)).train()
    return tiny.build_student(tiny.config(tiny.STUDENT, *keys, "DISTILL.MIMIC.WEIGHT", "1.0", *overrides)).train()


def losses(task, model, size):
    torch.manual_seed(1)  # dropout, sampled RoIs
    with EventStorage():
        return model(scenes.batch(size=(size, size)) if task == "seg" else tiny.batch(size=size))


@pytest.mark.parametrize("task", [pytest.param("seg", marks=pytest.mark.slow), "det"])
def test_compiled(task, teachers, monkeypatch):
    graphs = []

    def backend(graph, _):  # torch.compile's own takes a minute
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    plain, compiled = student(task, teachers[task]), student(task, teachers[task], *COMPILE)
    for size in (64, 96):
        wanted, found = (losses(task, model, size) for model in (plain, compiled))
        assert "loss_mimic" in found
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)
    assert graphs
    assert compiled.state_dict().keys() == plain.state_dict().keys()


def test_what_overflows_is_found_in_a_compiled_teacher(teachers, monkeypatch):
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    keys = *COMPILE, "DISTILL.TEACHER.PRECISION", "bfloat16"
    model = student("seg", teachers["seg"], *keys)
    teacher = model.distillation.teacher
    losses("seg", model, 64)
    with torch.no_grad():
        next(teacher.model.smp.decoder.parameters()).fill_(torch.inf)
    with teacher.overflows() as found:
        losses("seg", model, 64)
    assert found
    assert "decoder" in found[0]


@pytest.mark.slow
@pytest.mark.parametrize("task", ["seg", "det"])
def test_compiled_by_torchs_own_compiler(task, teachers):
    plain, compiled = student(task, teachers[task]), student(task, teachers[task], *COMPILE)
    torch.testing.assert_close(losses(task, compiled, 64), losses(task, plain, 64), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("task", ["seg", "det"])
def test_a_stream_needs_a_gpu(task, teachers):
    with pytest.raises(UserError, match=r"TEACHER.STREAM needs a GPU, and MODEL.DEVICE is cpu: set it to False"):
        student(task, teachers[task], *STREAM)


@pytest.mark.parametrize("keys", [COMPILE, STREAM])
@pytest.mark.parametrize("task", ["seg", "det"])
def test_a_teacher_from_a_cache_does_not_run(task, keys, teachers, tmp_path):
    off = ("DISTILL.MIMIC.WEIGHT", "0.0", "DISTILL.TEACHER.CACHE", tmp_path)
    with pytest.raises(UserError, match=rf"{keys[0]}: with CACHE the teacher does not see the batches: set it to"):
        student(task, teachers[task], *keys, *off)


def test_a_program_is_not_compiled_again(tmp_path):
    program = tmp_path / "a.pt2"
    torch.export.save(torch.export.export(torch.nn.Conv2d(3, 11, 1), (torch.zeros(1, 3, 64, 64),)), program)
    with pytest.raises(UserError, match=r"TEACHER.COMPILE: this kind of teacher cannot be compiled"):
        student("seg", ["DISTILL.TEACHER.WEIGHTS", program, "DISTILL.TEACHER.FORMAT", "RGB"], *COMPILE)
