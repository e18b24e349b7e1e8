"""What cannot work ends in one line before training, and what can is trained as if nothing had been rehearsed."""

import random
import re

import numpy as np
import pytest
import torch

from densedist.common.engine import rehearsal
from densedist.common.engine import train as engine
from densedist.common.engine.rehearsal import rehearse
from densedist.common.errors import UserError
from densedist.common.randomness import RunPosition
from densedist.det.task import TASK as DET
from densedist.seg.task import TASK as SEG
from helpers import scenes, tiny
from helpers.calling import complaint, densedist
from helpers.killing import differences
from helpers.tasks import with_methods

ON = ["TEST.EXAMPLES", "1", "REHEARSAL", "True", "DATASETS.TEST", "['test']", "SOLVER.MAX_ITER", "2"]
SCENES = ["train", "seg", "--config-file", scenes.STUDENT, *scenes.SMALL, *ON]
BOXES = ["train", "det", "--config-file", tiny.DIGITS / "retinanet_r10_quarter.yaml", *tiny.SMALL, *ON]
BOXES[-3] = "('digits_test',)"
END = "; REHEARSAL False begins anyway, --debug shows where"


@pytest.mark.parametrize("argv", [SCENES, BOXES], ids=["seg", "det"])
def test_a_rehearsed_run_is_the_same_bit_by_bit(tmp_path, argv, caplog):
    densedist(*argv, "OUTPUT_DIR", tmp_path / "rehearsed")
    log = (tmp_path / "rehearsed" / "log.txt").read_text()
    assert log.count("rehearsed a step, an evaluation and a drawing in ") == 1
    assert re.search(r"2 iterations as slow as this first one take \d+ s\n", log)
    densedist(*argv, "REHEARSAL", "False", "OUTPUT_DIR", tmp_path / "plain")
    assert "rehearsed a step" not in (tmp_path / "plain" / "log.txt").read_text()
    rehearsed, plain = (
        torch.load(tmp_path / name / "model_final.pth", weights_only=True) for name in ("rehearsed", "plain")
    )
    assert differences(rehearsed, plain) == []


def states():
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()


def seg(*overrides):
    cfg = SEG.load_config(str(scenes.STUDENT), [*scenes.SMALL, *ON, *overrides])
    return cfg, SEG, SEG.build(cfg), SEG.training_batches(cfg)(RunPosition(0))


def test_nothing_is_left_behind():
    cfg, task, trainee, batches = seg()
    before = {name: x.clone() for name, x in trainee.model.state_dict().items()}, states()
    rehearse(cfg, task, trainee, batches)
    assert states() == before[1]
    assert all(torch.equal(x, before[0][name]) for name, x in trainee.model.state_dict().items())
    assert all(p.grad is None for p in trainee.model.parameters())
    assert trainee.model.training


def test_parameters_without_a_gradient_are_found():
    """Only then do several processes have to look for them in each step."""
    cfg, task, trainee, batches = seg("MODEL.ENCODER.DEPTH", "5")
    assert not rehearse(cfg, task, trainee, batches).unused
    trainee.model.spare = torch.nn.Linear(1, 1)
    assert rehearse(cfg, task, trainee, batches).unused


def test_the_plan_says_who_pulls_at_the_student(tmp_path):
    argv = ["train", "seg", "--config-file", scenes.STUDENT, *scenes.SMALL, "SOLVER.MAX_ITER", "1", "REHEARSAL", "True"]
    words = [*scenes.save_teacher(tmp_path / "teacher"), "DISTILL.DIST.WEIGHT", "1.0", "DATASETS.TEST", "[]"]
    densedist(*argv, *words, "OUTPUT_DIR", tmp_path / "out")
    line = re.search(r"at the start, gradient on shared parameters: (.*)", (tmp_path / "out" / "log.txt").read_text())
    shares = [int(share) for share in re.findall(r"loss_\w+ (\d+) %", line[1])]
    assert "loss_dist" in line[1]
    assert 97 <= sum(shares) <= 103
    assert line[0] in (tmp_path / "out" / "report.html").read_text()
    densedist(*argv, "DATASETS.TEST", "[]", "OUTPUT_DIR", tmp_path / "alone")
    assert "at the start, " not in (tmp_path / "alone" / "log.txt").read_text()


def test_a_teacher_that_teaches_nothing_is_said(tmp_path):
    """Here no pixel has enough of the teacher's probability in the classes that the student knows."""
    argv = ["train", "seg", "--config-file", scenes.STUDENT, *scenes.SMALL, "SOLVER.MAX_ITER", "1", "REHEARSAL", "True"]
    words = [*scenes.save_teacher(tmp_path / "teacher"), "DISTILL.DIST.WEIGHT", "1.0", "DATASETS.TEST", "[]"]
    silent = ["DISTILL.TEACHER.CLASSES.0", "['1']", "DISTILL.TEACHER.CLASSES.1", "['0']", "DISTILL.TEACHER.KEPT_MASS"]
    warning = "loss_dist: 0 on the first batch, so the teacher teaches nothing there"
    few = ["DISTILL.TEACHER.MISSING_CLASSES", "leave_out"]
    few += [word for n in range(2, 10) for word in (f"DISTILL.TEACHER.CLASSES.{n}", "[]")]
    densedist(*argv, *words, *silent, "0.0", "OUTPUT_DIR", tmp_path / "a")
    assert warning not in (tmp_path / "a" / "log.txt").read_text()
    densedist(*argv, *words, *silent, "1.0", *few, "OUTPUT_DIR", tmp_path / "b")
    assert warning in (tmp_path / "b" / "log.txt").read_text()


def test_batch_norm_over_one_value(tmp_path, capsys):
    deeplab = ["train", "seg", "--config-file", scenes.TEACHER, *SCENES[4:], "MODEL.ARGS.decoder_channels", "8"]
    deeplab += ["OUTPUT_DIR", tmp_path, "SOLVER.ACCUMULATION_STEPS", "2"]
    line = complaint(capsys, *deeplab)
    assert line.startswith("a training step fails in the rehearsal: ValueError: Expected more than 1 value per channel")
    assert line.endswith(
        "batch norm needs more than the 1 image that SOLVER.IMS_PER_BATCH 2 gives each process in 2 part(s): raise "
        f"it, or lower SOLVER.ACCUMULATION_STEPS or the number of processes{END}"
    )
    densedist(*deeplab, "SOLVER.IMS_PER_BATCH", "4")  # into the same folder


def broken(*_):
    raise IndexError("list index out of range")


@pytest.mark.parametrize(
    ("part", "wanted"),
    [
        (
            "evaluate",
            "an evaluation fails in the rehearsal: IndexError: list index out of range ({at}): look at MODEL, INPUT, ",
        ),
        (
            "draw_examples",
            "a drawing fails in the rehearsal: IndexError: list index out of range ({at}): look at INPUT, or ",
        ),
    ],
)
def test_whatever_fails_names_its_keys(part, wanted):
    cfg, task, trainee, batches = seg()
    with pytest.raises(UserError) as refused:
        rehearse(cfg, with_methods(task, **{part: broken}), trainee, batches)
    at = f"test_rehearsal.py:{broken.__code__.co_firstlineno + 1}"
    assert str(refused.value).startswith(wanted.format(at=at))
    assert str(refused.value).endswith(END)


def test_a_models_own_exception_is_one_line(monkeypatch):
    cfg, task, trainee, batches = seg()
    monkeypatch.setattr(type(trainee.model), "forward", lambda *_: broken())
    with pytest.raises(UserError, match=r"a training step fails in the rehearsal: IndexError.* look at MODEL, INPUT,"):
        rehearse(cfg, task, trainee, batches)


def test_want_of_memory_is_named(monkeypatch):
    cfg, task, trainee, batches = seg()

    def lacking(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(type(trainee.model), "forward", lacking)
    with pytest.raises(UserError, match=r"lower SOLVER.IMS_PER_BATCH, or raise SOLVER.ACC"):
        rehearse(cfg, task, trainee, batches)


def test_numbers_that_are_not_finite_are_for_the_trainer_to_judge(monkeypatch):
    cfg, task, trainee, batches = seg()

    def diverged(self, *_):
        if self.training:
            raise FloatingPointError("Predicted boxes or scores contain Inf/NaN")
        return forward(self, *_)

    forward = type(trainee.model).forward
    monkeypatch.setattr(type(trainee.model), "forward", diverged)
    assert not rehearse(cfg, task, trainee, batches).unused


def test_only_one_image_is_evaluated_and_drawn(monkeypatch):
    cfg = DET.load_config(str(tiny.STUDENT), [*tiny.SMALL, *BOXES[-len(ON) :]])
    trainee, seen = DET.build(cfg), []
    forward = type(trainee.model).inference
    monkeypatch.setattr(
        type(trainee.model), "inference", lambda self, x, *rest: seen.append(len(x)) or forward(self, x, *rest)
    )
    rehearse(cfg, DET, trainee, DET.training_batches(cfg)(RunPosition(0)))
    assert seen == [1, 1]


def test_without_test_data_only_the_step_is_rehearsed():
    cfg, task, trainee, batches = seg("DATASETS.TEST", "[]")
    rehearse(cfg, with_methods(task, evaluate=broken, draw_examples=broken), trainee, batches)


def test_the_engine_asks_the_config(monkeypatch, tmp_path):
    monkeypatch.setattr(engine, "rehearse", broken)
    with pytest.raises(IndexError):
        densedist(*SCENES, "OUTPUT_DIR", tmp_path / "on")
    densedist(*SCENES, "REHEARSAL", "False", "OUTPUT_DIR", tmp_path / "off")


def test_a_name_for_what_a_model_of_one_size_says():
    assert rehearsal.ONE_SIZE.search("Input height (512) doesn't match model (224).")
    assert rehearsal.ONE_SIZE.search("Input height (90) should be divisible by patch size (16)")
