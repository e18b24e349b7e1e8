"""What a run does when it is asked to end, when its disk is full, its checkpoints damaged, its losses not finite."""

import errno
import json
import os
import signal
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from torch import nn

from densedist.common.distill.teacher import Teacher
from densedist.common.engine.hooks import ModelEMA
from densedist.common.engine.preemption import REQUEUE, Preemption
from densedist.common.engine.run_folder import RunCheckpointer
from densedist.common.engine.trainer import Trainer
from densedist.common.errors import UserError
from densedist.common.report.history import read_history
from densedist.seg.data.reading import Reader
from densedist.seg.task import TASK
from helpers import scenes, tiny
from helpers.calling import densedist
from helpers.killing import differences
from helpers.processes import run_processes
from helpers.tasks import with_methods

SEG = ["--config-file", scenes.STUDENT, *scenes.SMALL, "DATASETS.TEST", "['test']"]
DET = ["--config-file", tiny.STUDENT, *tiny.SMALL, "DATASETS.TEST", "('digits_test',)"]
RETINANET = ["--config-file", tiny.DIGITS / "retinanet_r10_quarter.yaml", *DET[2:]]
EVERY_LOSS = [
    word
    for name, weight in (("MGD", "1e-3"), ("BOX", "1.0"), ("RPN", "1.0"), ("MASK", "1.0"))
    for word in (f"DISTILL.{name}.WEIGHT", weight)
]
ENDS = ("", "_unlabeled")
SHORT = ["SOLVER.MAX_ITER", "6", "SOLVER.CHECKPOINT_PERIOD", "2"]


def train(output, argv, *options, task="seg"):
    config, keys = argv[:2], argv[2:]
    densedist("train", task, *options, *config, *SHORT, *keys, "OUTPUT_DIR", output)
    return Path(output)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return scenes.save_teacher(tmp_path_factory.mktemp("teacher"))


def at_iteration(monkeypatch, iteration, number):
    """Make a run get a signal in the midst of its iteration number n, once."""
    step = Trainer.run_step

    def run_step(trainer):
        if trainer.iter == iteration:
            monkeypatch.setattr(Trainer, "run_step", step)
            os.kill(os.getpid(), number)
        step(trainer)

    monkeypatch.setattr(Trainer, "run_step", run_step)


@pytest.fixture
def sigterm(monkeypatch):
    """Makes a run get SIGTERM in the midst of its iteration number n, once."""
    return lambda iteration: at_iteration(monkeypatch, iteration, signal.SIGTERM)


FLOAT16 = ["SOLVER.AMP.ENABLED", "True"]
RARE = ["DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler", "DATALOADER.REPEAT_THRESHOLD", "0.5"]
SHARE = ["DISTILL.GRADIENT_SHARE", "0.2", "DISTILL.GRADIENT_PERIOD", "2", "DISTILL.WARMUP_ITERS", "3"]
MEMORY = ["DISTILL.RKD.WEIGHT", "1.0", "DISTILL.RKD.SAMPLES", "cells", "DISTILL.RKD.MEMORY", "40"]
EMA = ["SOLVER.EMA_DECAY", "0.5", "SOLVER.OPTIMIZER", "SGD", "SOLVER.BASE_LR", "0.01"]


@pytest.mark.parametrize(
    ("task", "argv"),
    [
        ("seg", [*SEG, *FLOAT16, *SHARE, *MEMORY, "SOLVER.IMS_PER_BATCH", "4", "SOLVER.ACCUMULATION_STEPS", "2"]),
        pytest.param(
            "seg",
            [*SEG, *EMA, "SOLVER.CLIP_GRADIENTS.ENABLED", "False", "DATALOADER.NUM_WORKERS", "2"],
            marks=pytest.mark.slow,
        ),
        ("det", RETINANET),
        ("det", [*DET, *RARE, "MODEL.MASK_ON", "True", *EVERY_LOSS, "SOLVER.EMA_DECAY", "0.5", "SOLVER.MAX_ITER", "4"]),
    ],
    ids=[
        "float16, accumulation, share, memory",
        "EMA, no clipping, two workers",
        "RetinaNet",
        "every loss",
    ],
)
def test_sigterm_then_resume_ends_as_if_nothing_had_happened(tmp_path, task, argv, sigterm, teacher):
    if task == "seg":
        argv = [*argv, *teacher, "DISTILL.MIMIC.WEIGHT", "1.0", "DATASETS.UNLABELED", "['train']"]
    if "DISTILL.MASK.WEIGHT" in argv:
        argv = [*argv, *tiny.save_teacher(tmp_path / "teacher"), "DATASETS.UNLABELED", "('digits_val',)"]
    whole = train(tmp_path / "whole", argv, task=task)
    sigterm(2)
    with pytest.raises(SystemExit) as stop:
        train(tmp_path / "cut", argv, task=task)
    assert stop.value.code == REQUEUE == 75
    assert (tmp_path / "cut" / "last_checkpoint").read_text() == "model_0000002.pth"
    cut = train(tmp_path / "cut", argv, "--resume", task=task)
    assert differences(*(torch.load(f / "model_final.pth", weights_only=True) for f in (whole, cut))) == []
    if "DISTILL.MASK.WEIGHT" in argv:  # the student is a plain one, and what generates stays beside it in checkpoints
        final = torch.load(cut / "model_final.pth", weights_only=True)
        last = torch.load(max(cut.glob("model_0*.pth")), weights_only=True)
        assert (
            final["model"].keys() == build_model(tiny.config(tiny.STUDENT, "MODEL.MASK_ON", "True")).state_dict().keys()
        )
        assert any("generate" in name for name in last["adapters"])
        logged = (cut / "metrics.json").read_text()
        assert all(f"loss_{name}{end}" in logged for name in ("box", "rpn", "mgd", "mask_distill") for end in ENDS)


@pytest.mark.parametrize(("task", "cut_at"), [("seg", 2), ("det", 4)])
def test_resume_before_and_after_the_change_to_true_labels_ends_as_if_nothing_had_happened(
    tmp_path, task, cut_at, sigterm
):
    """They change at iteration 4; until then a half of each batch has labels of a teacher, with a weight."""
    name = "train[{}]" if task == "seg" else "digits_train[{}]"
    keys = [*(SEG if task == "seg" else DET), "DATALOADER.NUM_WORKERS", "1", "SOLVER.IMS_PER_BATCH", "4"]
    keys += ["DATASETS.TRAIN", str([name.format(":6")]), "DATASETS.PSEUDO_LABELED", str([name.format("6:9")])]
    keys += ["PSEUDO_LABELS.SHARE", "0.5", "PSEUDO_LABELS.WEIGHT", "0.3", "SOLVER.TRUE_LABELS_LAST", "0.33"]
    whole = train(tmp_path / "whole", keys, task=task)
    assert "DATASETS.TRAIN alone from iteration 4 on" in (whole / "log.txt").read_text()
    sigterm(cut_at)
    with pytest.raises(SystemExit):
        train(tmp_path / "cut", keys, task=task)
    cut = train(tmp_path / "cut", keys, "--resume", task=task)
    assert differences(*(torch.load(f / "model_final.pth", weights_only=True) for f in (whole, cut))) == []


@pytest.mark.parametrize("task", ["seg", "det"])
def test_resume_with_the_students_average_as_its_teacher_ends_as_if_nothing_had_happened(tmp_path, task, sigterm):
    keys = [*(SEG if task == "seg" else DET), "DISTILL.TEACHER.WEIGHTS", "average", "DISTILL.KD.WEIGHT", "1.0"]
    keys += ["SOLVER.EMA_DECAY", "0.5", "DATASETS.UNLABELED", "['val']" if task == "seg" else "('digits_val',)"]
    whole = train(tmp_path / "whole", keys, task=task)
    sigterm(3)
    with pytest.raises(SystemExit):
        train(tmp_path / "cut", keys, task=task)
    cut = train(tmp_path / "cut", keys, "--resume", task=task)
    assert differences(*(torch.load(f / "model_final.pth", weights_only=True) for f in (whole, cut))) == []


def contents(run):
    """All but the log, to which the first run's handlers still write in this process."""
    files = [file for file in run.iterdir() if file.is_file() and file.name != "log.txt"]
    return {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in files}


def test_a_finished_run_stays_as_it_is(tmp_path, capfd):
    keys = [*SEG, "SOLVER.MAX_ITER", "3"]
    run = train(tmp_path, keys)
    before = contents(run)
    train(tmp_path, keys, "--resume")
    assert "has come to its end: nothing is left to train" in capfd.readouterr().out
    with pytest.raises(SystemExit) as stop:
        train(tmp_path, [*keys, "SOLVER.BASE_LR", "0.5"], "--resume")
    assert stop.value.code == 2
    said = capfd.readouterr().err
    assert f"--resume: {run} holds a run that has come to its end: nothing is left to train with other settings" in said
    assert "SOLVER.BASE_LR" in said
    assert contents(run) == before
    train(tmp_path, [*keys, "SOLVER.MAX_ITER", "4"], "--resume")
    assert (run / "log.txt").read_text().count("Starting training from iteration 3") == 1


def test_sigterm_before_anything_is_listening_still_ends_the_process(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    train(tmp_path, SEG)
    assert signal.getsignal(signal.SIGTERM) is before


def test_sigterm_while_it_evaluates_ends_at_once_and_the_evaluation_is_repeated(tmp_path, monkeypatch):
    asked = iter([True])

    def evaluate(cfg, model):
        if next(asked, False):
            os.kill(os.getpid(), signal.SIGTERM)
        return {"sem_seg": {"mIoU": 50.0}}

    monkeypatch.setattr("densedist.seg.task.TASK", with_methods(TASK, evaluate=evaluate))
    keys = [*SEG, "TEST.EVAL_PERIOD", "3"]
    with pytest.raises(SystemExit) as stop:
        train(tmp_path, keys)
    assert stop.value.code == REQUEUE
    assert not (tmp_path / "model_best.pth").exists()
    train(tmp_path, keys, "--resume")
    assert torch.load(tmp_path / "model_best.pth", weights_only=True)["metric"] == {"sem_seg/mIoU": 50.0}
    assert "Starting training from iteration 3" in (tmp_path / "log.txt").read_text()


@pytest.fixture
def in_the_foreground():
    """Lets SIGINT interrupt, which a shell has its commands in the background ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("in_the_foreground")
def test_ctrl_c_writes_a_checkpoint_and_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    at_iteration(monkeypatch, 2, signal.SIGINT)
    with pytest.raises(SystemExit) as stop:
        train(tmp_path, [*SEG, "DATALOADER.NUM_WORKERS", "1"])
    assert stop.value.code == 130
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000002.pth"
    assert "Ctrl-C: ending; --resume continues from the last checkpoint" in (tmp_path / "log.txt").read_text()
    assert capsys.readouterr().err.endswith("interrupted\n")


@pytest.mark.usefixtures("in_the_foreground")
def test_a_second_ctrl_c_ends_at_once():
    with Preemption(torch.device("cpu")) as preemption:
        os.kill(os.getpid(), signal.SIGINT)
        assert preemption.agreed()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_is_ignored_where_the_shell_says_so():
    """As for a command in the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Preemption(torch.device("cpu")) as preemption:
            os.kill(os.getpid(), signal.SIGINT)
            assert not preemption.agreed()
    finally:
        signal.signal(signal.SIGINT, before)


def test_best_is_chosen_by_the_metric_that_the_config_has_now(tmp_path, monkeypatch):
    """With several test sets that of the first, which may be another one after a resume."""

    def evaluate(cfg, model, most=None):
        return {"val": {"sem_seg": {"mIoU": 50.0}}, "test": {"sem_seg": {"mIoU": 30.0}}}

    task = with_methods(TASK, evaluate=evaluate, metric=lambda cfg: f"{cfg.DATASETS.TEST[0]}/sem_seg/mIoU")
    monkeypatch.setattr("densedist.seg.task.TASK", task)
    keys = [*SEG, "TEST.EXAMPLES", "0"]
    train(tmp_path, [*keys, "DATASETS.TEST", "['val', 'test']"])
    assert torch.load(tmp_path / "model_best.pth", weights_only=True)["metric"] == {"val/sem_seg/mIoU": 50.0}
    said = "model_best.pth is the model with the highest val/sem_seg/mIoU"
    assert (tmp_path / "log.txt").read_text().count(said) == 1
    assert read_history(tmp_path)["val/sem_seg/mIoU"][-1].value == 50.0  # what the report draws
    train(tmp_path, [*keys, "DATASETS.TEST", "['test', 'val']", "SOLVER.MAX_ITER", "8"], "--resume")
    assert torch.load(tmp_path / "model_best.pth", weights_only=True)["metric"] == {"test/sem_seg/mIoU": 30.0}


def test_average_is_what_users_get(tmp_path):
    output = train(tmp_path, [*SEG, "SOLVER.EMA_DECAY", "0.9"])
    saved = torch.load(output / "model_final.pth", weights_only=True)
    assert set(saved["model"]) == set(saved["trained"])
    assert differences(saved["model"], saved["trained"])
    best = torch.load(output / "model_best.pth", weights_only=True)
    assert differences(best["model"], saved["model"]) == []  # it is what was evaluated


def test_average_follows_its_formula(tmp_path):
    output = train(
        tmp_path, [*SEG, "SOLVER.EMA_DECAY", "0.2", "SOLVER.CHECKPOINT_PERIOD", "1", "SOLVER.CHECKPOINTS_KEPT", "0"]
    )
    files = [torch.load(file, weights_only=True) for file in sorted(output.glob("model_0*.pth"))]
    for before, after in pairwise(files):
        step = after["iteration"]
        decay = min(0.2, (1 + step) / (10 + step))  # 2/11, then 0.2
        for name, value in after["model"].items():
            if value.is_floating_point():
                wanted = decay * before["model"][name].double() + (1 - decay) * after["trained"][name].double()
                torch.testing.assert_close(value.double(), wanted, rtol=1e-5, atol=1e-7)


def test_of_a_short_run_the_average_forgets_the_initial_weights():
    """A decay of 0.9999 would leave 99 % of them after 100 iterations."""
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(1.0)
    average = ModelEMA(model, 0.9999)
    model.weight.data.fill_(0.0)
    for iteration in range(100):
        average.trainer = SimpleNamespace(iter=iteration)
        average.after_step()
    assert 0 < average.model.weight.item() < 1e-9


def test_only_the_last_checkpoints_are_kept(tmp_path):
    train(tmp_path, [*SEG, "SOLVER.CHECKPOINTS_KEPT", "1"])
    assert sorted(f.name for f in tmp_path.glob("*.pth")) == ["model_0000003.pth", "model_best.pth", "model_final.pth"]


def damage(file):
    """One byte in the midst of the tensors."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def test_damaged_checkpoint_is_named_and_the_one_before_it_used(tmp_path):
    whole = train(tmp_path / "whole", SEG)
    output = train(tmp_path / "run", SEG)
    damage(output / "model_final.pth")
    (output / "model_0000003.pth").write_bytes((output / "model_0000003.pth").read_bytes()[:-1000])
    (output / "metrics.json").write_text('{"iteration": 1, "a": 1}\n{"iteration": 2, "a": 1}\n{"iterat')
    train(output, SEG, "--resume")
    log = (output / "log.txt").read_text()
    assert "model_final.pth is damaged (bad check sum of" in log
    assert "model_0000003.pth is damaged (File is not a zip file)" in log
    assert "Starting training from iteration 2" in log
    assert differences(*(torch.load(f / "model_final.pth", weights_only=True) for f in (whole, output))) == []
    lines = [json.loads(line)["iteration"] for line in (output / "metrics.json").read_text().splitlines()]
    assert lines[0] == 1
    assert lines == sorted(set(lines))


@pytest.fixture
def message(tmp_path, capsys):
    """Runs densedist train in a folder and returns its one line on standard error."""

    def call(argv, *options, task="seg"):
        with pytest.raises(SystemExit) as stop:
            train(tmp_path / "run", argv, *options, task=task)
        assert stop.value.code == 2
        return capsys.readouterr().err.strip().splitlines()[-1]

    return call


def test_all_checkpoints_damaged(tmp_path, message):
    for file in train(tmp_path / "run", SEG).glob("model_*.pth"):
        damage(file)
    text = f"error: --resume: all checkpoints in {tmp_path}/run are damaged: start again in another folder"
    assert message(SEG, "--resume") == text


def test_folder_of_another_run(tmp_path, message):
    before = (train(tmp_path / "run", SEG) / "metrics.json").read_bytes()
    text = f"error: OUTPUT_DIR: {tmp_path}/run holds a run: give --resume to continue it, name another OUTPUT_DIR, or "
    text += "remove the folder"
    assert message(SEG) == text
    assert message(DET, task="det") == (
        f"error: OUTPUT_DIR: {tmp_path}/run holds a run of segmentation, not of detection: name another OUTPUT_DIR, or "
        "with --resume that of a run of detection"
    )
    assert (tmp_path / "run" / "metrics.json").read_bytes() == before


def test_checkpoint_of_another_architecture(tmp_path, message):
    train(tmp_path / "run", SEG)
    text = message([*SEG, "SOLVER.MAX_ITER", "9", "MODEL.ARGS.psp_out_channels", "32"], "--resume")
    assert text.startswith(f"error: --resume: {tmp_path}/run/model_final.pth: the weights do not fit the model: ")


def test_full_disk_leaves_the_earlier_checkpoints(tmp_path, message, monkeypatch):
    save, count = torch.save, iter(range(9))

    def full(data, file):
        if next(count) == 1:
            file.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(data, file)

    monkeypatch.setattr(torch, "save", full)
    text = f"error: {tmp_path}/run/model_0000003.pth cannot be written: the disk is full; "
    assert message(SEG) == text + "earlier checkpoints are intact, and --resume uses them"
    assert [f.name for f in (tmp_path / "run").glob("model*")] == ["model_0000001.pth"]
    train(tmp_path / "run", SEG, "--resume")
    assert "Starting training from iteration 2" in (tmp_path / "run" / "log.txt").read_text()


def test_full_disk_anywhere_else_is_one_line_too(message, monkeypatch):
    def full(cfg, model):
        raise OSError(errno.ENOSPC, "No space left on device", "inference/confusion.png")

    monkeypatch.setattr("densedist.seg.task.TASK", with_methods(TASK, evaluate=full))
    assert message(SEG) == "error: [Errno 28] No space left on device: 'inference/confusion.png'"


def test_dead_worker(message, monkeypatch):
    parent, read = os.getpid(), Reader.__call__

    def die(self, frame):
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return read(self, frame)

    monkeypatch.setattr(Reader, "__call__", die)
    text = message([*SEG, "DATALOADER.NUM_WORKERS", "1"])
    assert text.startswith("error: DataLoader worker (pid")
    assert "lower DATALOADER.NUM_WORKERS, and --resume continues from the last checkpoint" in text


class Losses(torch.nn.Module):
    """A model with one parameter whose losses are those of the batches."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, batch):
        if batch[0]["value"] == "diverged":  # as Detectron2's RPN says
            raise FloatingPointError("Predicted boxes or scores contain Inf/NaN. Training has diverged.")
        return {"loss_a": self.weight * 1.0, "loss_b": self.weight * batch[0]["value"]}


def steps(values, count=None, **options):
    """The trainer after so many steps, by default one on each value, and its weight after each."""
    model = Losses()
    trainer = Trainer(model, torch.optim.SGD(model.parameters(), lr=0.1), **options)
    trainer.reset_data_loader(lambda: ([{"name": f"image{i}", "value": v}] for i, v in enumerate(values)))
    weights = []
    with EventStorage():
        for trainer.iter in range(count or len(values)):
            trainer.run_step()
            weights.append(model.weight.item())
    return trainer, weights


def test_loss_that_is_not_finite_stops_before_the_step():
    text = r"loss_b is nan at iteration 1 \(process 0; images image1\): lower SOLVER.BASE_LR.* MAX_SKIPPED_STEPS, now 0"
    with pytest.raises(UserError, match=text.replace("MAX", "SOLVER.MAX")):
        steps([1.0, float("nan")])


def test_allowed_skips_leave_the_weights_and_are_counted():
    trainer, weights = steps([1.0, float("inf"), 1.0], max_skipped=1)
    assert weights == pytest.approx([0.8, 0.8, 0.6])
    assert trainer.skipped == trainer.state_dict()["skipped"] == 1
    with pytest.raises(UserError, match="loss_b is inf at iteration 2"):
        steps([float("inf"), 1.0, float("inf")], max_skipped=1)


def test_a_forward_that_is_not_finite_is_skipped_likewise():
    with pytest.raises(UserError, match=r"FloatingPointError: Predicted boxes .* at iteration 1 .*images image1\)"):
        steps([1.0, "diverged"])
    _, weights = steps([1.0, "diverged", 1.0], max_skipped=1)
    assert weights == pytest.approx([0.8, 0.8, 0.6])


def test_a_skipped_step_takes_all_its_batches():
    """So that the next one has those that it would have had, as after a resume."""
    _, weights = steps([float("nan"), 7.0, 1.0, 1.0], max_skipped=1, accumulation_steps=2, count=2)
    assert weights == pytest.approx([1.0, 0.8])


class Overflowing(torch.nn.Module):
    """The losses, with a teacher whose second part gives more than float16 has."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        parts = {"fine": torch.nn.Linear(1, 1), "large": torch.nn.Linear(1, 1)}
        taught = torch.nn.ModuleDict(parts)
        taught.large.weight.data.fill_(1e5)
        self.teacher = [Teacher(taught, precision=torch.float16)]

    def forward(self, batch):
        parts = self.teacher[0].model
        wanted = parts["large"](parts["fine"](torch.ones(1, 1, dtype=torch.float16)) * 0 + 1)
        return {"loss_task": self.weight * 1.0, "loss_dist": self.weight * wanted.sum().float()}


def test_a_teacher_that_overflows_is_named():
    model = Overflowing()
    trainer = Trainer(model, torch.optim.SGD(model.parameters(), lr=0.1), teacher=model.teacher[0])
    trainer.reset_data_loader(lambda: iter([[{"name": "image0"}]]))
    trainer.iter = 0
    with EventStorage(), pytest.raises(UserError) as refused:
        trainer.run_step()
    assert str(refused.value) == (
        "loss_dist is inf at iteration 0 (process 0; images image0): set DISTILL.TEACHER.PRECISION to bfloat16 or "
        "float32, as its large overflows float16, look at the images, or allow skipped steps by "
        "SOLVER.MAX_SKIPPED_STEPS, now 0"
    )
    with Teacher(torch.nn.Linear(1, 1)).overflows() as found:
        pass
    assert found == []


def step_together(rank, count):
    with pytest.raises(UserError, match=r"loss_b is nan at iteration 1 \(process 1; images image1\)"):
        steps([1.0, float("nan") if rank == 1 else 1.0])
    for bad in (float("nan"), "diverged"):
        _, weights = steps([1.0, bad if rank == 1 else 1.0, 1.0], max_skipped=1)
        assert weights == pytest.approx([0.8, 0.8, 0.6])


def test_all_processes_stop_or_skip_together():
    run_processes(2, step_together)


def test_checkpointer_keeps_all_where_asked(tmp_path):
    checkpointer = RunCheckpointer(Losses(), str(tmp_path), keep=0)
    for number in range(5):
        checkpointer.save(f"model_{number:07}")
    assert len(list(tmp_path.glob("model_*.pth"))) == 5
