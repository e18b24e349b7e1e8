"""The student's own average as its teacher: what it is, when it moves, and that nothing of it is in the student."""

import copy
import json
from types import SimpleNamespace

import pytest
import torch
from detectron2.modeling import build_model

from densedist.common.compare.pace import TURNS, WARM_UP, seconds_per_iteration
from densedist.common.engine.hooks import ModelEMA
from densedist.common.engine.train import train
from densedist.common.errors import UserError
from densedist.det.config import without_distillation
from densedist.tasks import task_named
from helpers import scenes, tiny
from helpers.calling import complaint, densedist
from helpers.processes import run_processes

WEIGHTS = "DISTILL.TEACHER.WEIGHTS"
AVERAGE = [WEIGHTS, "average", "SOLVER.EMA_DECAY", "0.9", "DISTILL.KD.WEIGHT", "1.0"]
TASKS = {"det": (tiny, tiny.STUDENT), "seg": (scenes, scenes.STUDENT), "dense": (tiny, tiny.RETINANET)}
TWICE = str([{"WEIGHTS": "average"}])
SHORT = ["SOLVER.MAX_ITER", "3", "SOLVER.CHECKPOINT_PERIOD", "1"]
UNLABELED = {"det": "('digits_val',)", "seg": "['val']"}


def trainee_of(task, *keys):
    helper, file = TASKS[task]
    torch.manual_seed(0)
    return task_named("seg" if task == "seg" else "det").build(helper.config(file, *AVERAGE, *keys))


def state(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize("task", TASKS)
def test_the_average_is_that_of_the_formula(task):
    """d · average + (1 - d) · student after each step, d = min(0.5, (1 + t) / (10 + t)), in float64."""
    trainee = trainee_of(task)
    teacher = trainee.distillation.teacher
    hook = ModelEMA(trainee.student, 0.5, teacher.average)
    assert hook.model is teacher.average
    wanted = {name: x.double() for name, x in state(trainee.student).items() if x.is_floating_point()}
    for step in (0, 1, 2, 50):
        with torch.no_grad():
            for tensor in trainee.student.state_dict().values():
                tensor.add_(torch.randn(tensor.shape)) if tensor.is_floating_point() else tensor.add_(1)
        hook.trainer = SimpleNamespace(iter=step)
        hook.after_step()
        decay = min(0.5, (1 + step) / (10 + step))
        now = trainee.student.state_dict()
        wanted = {name: decay * x + (1 - decay) * now[name].double() for name, x in wanted.items()}
    averaged, now = teacher.average.state_dict(), trainee.student.state_dict()
    for name, x in wanted.items():
        torch.testing.assert_close(averaged[name].double(), x, rtol=1e-5, atol=1e-6)
    assert all(torch.equal(averaged[name], x) for name, x in now.items() if name not in wanted), "counters"


@pytest.mark.parametrize("task", TASKS)
def test_it_is_frozen_in_eval_mode_and_no_part_of_the_student(task):
    trainee = trainee_of(task)
    average = trainee.distillation.teacher.average
    trainee.model.train()
    assert not any(part.training for part in average.modules())
    assert not any(parameter.requires_grad for parameter in average.parameters())
    ours = {id(x) for x in [*trainee.model.parameters(), *trainee.model.buffers(), *trainee.model.modules()]}
    assert not ours & {id(x) for x in [*average.parameters(), *average.buffers(), *average.modules()]}
    assert state(average).keys() == state(trainee.student).keys()


@pytest.mark.parametrize("task", ["det", "seg"])
def test_it_begins_as_the_students_start_and_teaches_on_all_images(task, tmp_path, monkeypatch):
    """Also where the start is a checkpoint, which is loaded after the model has been built."""
    helper, file = TASKS[task]
    started = tmp_path / "start.pth"
    weights = state(trainee_of(task).student)
    torch.save({"model": {name: x + 0.01 if x.is_floating_point() else x for name, x in weights.items()}}, started)
    seen = []

    def start(hook):
        first_start(hook)
        seen.append((state(hook.model), state(hook._trained)))

    first_start = ModelEMA.start
    monkeypatch.setattr(ModelEMA, "start", start)
    keys = [*helper.SMALL, *AVERAGE, *SHORT, "MODEL.WEIGHTS", started, "DATASETS.UNLABELED", UNLABELED[task]]
    keys += ["DISTILL.WARMUP_ITERS", "2", "REHEARSAL", "True", "DATASETS.TEST", "()" if task == "det" else "[]"]
    densedist("train", task, "--config-file", file, *keys, "OUTPUT_DIR", tmp_path / "out")
    for average, student in seen:
        assert all(torch.equal(x, student[name]) for name, x in average.items())
        first = next(iter(weights))
        torch.testing.assert_close(average[first], weights[first] + 0.01)
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.json").read_text().splitlines()]
    logged = {name for line in lines for name in line}
    assert {"loss_kd", "loss_kd_unlabeled"} - logged == (set() if task == "det" else {"loss_kd_unlabeled"})
    assert "the average of" in (tmp_path / "out" / "log.txt").read_text()


@pytest.mark.parametrize("task", ["det", "seg"])
def test_the_checkpoint_is_a_plain_student(task, tmp_path):
    helper, file = TASKS[task]
    keys = [*helper.SMALL, *AVERAGE, *SHORT, "DISTILL.MIMIC.WEIGHT", "1.0", "OUTPUT_DIR", tmp_path / "out"]
    densedist("train", task, "--config-file", file, *keys)
    content = torch.load(tmp_path / "out" / "model_final.pth", weights_only=True)
    if task == "det":
        plain = build_model(without_distillation(helper.config(file)))
    else:
        plain = task_named(task).build(helper.config(file)).student
    assert content["model"].keys() == plain.state_dict().keys() == content["trained"].keys()
    assert any(not torch.equal(x, content["trained"][name]) for name, x in content["model"].items())
    densedist("eval", task, "--weights", tmp_path / "out", "TEST.EXAMPLES", "0")
    densedist("visualize", "--weights", tmp_path / "out", "--images", "1", "--output-dir", tmp_path / "seen")
    densedist("train", task, "--resume", "--config-file", file, *keys, "SOLVER.MAX_ITER", "4")


def in_step(rank, count, name, keys, folder):
    """Train, and write down what the average is after each step."""
    helper, file = TASKS[name]
    step, seen = ModelEMA.after_step, []

    def after_step(hook):
        step(hook)
        seen.append(state(hook.model))

    ModelEMA.after_step = after_step
    task = task_named(name)
    train(task.load_config(str(file), [*helper.SMALL, *map(str, keys)]), task)
    torch.save(seen, folder / f"{rank}.pth")


@pytest.mark.parametrize("task", ["det", "seg"])
def test_all_processes_have_the_same(task, tmp_path):
    """Of batch norms that are not synchronized, too, and across an evaluation."""
    keys = [*AVERAGE, *SHORT, "TEST.EVAL_PERIOD", "1", "OUTPUT_DIR", tmp_path / "out"]
    keys += ["MODEL.SYNC_BN", "False"] if task == "seg" else ["SOLVER.IMS_PER_BATCH", "4"]
    run_processes(2, in_step, task, [*keys, "SOLVER.IMS_PER_BATCH", "4"], tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pth", weights_only=True) for rank in (0, 1))
    assert len(first) == 3
    moved = [name for name in first[0] if not torch.equal(first[0][name], first[2][name])]
    assert any("running_mean" in name for name in moved)
    for ours, theirs in zip(first, second, strict=True):
        assert all(torch.equal(x, theirs[name]) for name, x in ours.items())


@pytest.mark.parametrize("task", ["det", "seg"])
@pytest.mark.parametrize("first", ["frozen", "average"])
def test_beside_a_frozen_teacher_class_probabilities_are_averaged(task, first, tmp_path):
    helper, file = TASKS[task]
    frozen = helper.save_teacher(tmp_path / "teacher")
    entry = dict(zip(("CONFIG_FILE", "WEIGHTS"), frozen[1::2], strict=True))
    keys = [*AVERAGE[2:], *frozen, "DISTILL.TEACHER.MORE", str([{"WEIGHTS": "average"}])]
    if first == "average":
        keys = [*AVERAGE, "DISTILL.TEACHER.MORE", str([entry])]
    trainee = task_named(task).build(helper.config(file, *keys))
    teacher = trainee.distillation.teacher
    assert state(teacher.average).keys() == state(trainee.student).keys()
    ModelEMA(trainee.student, 0.9, teacher.average)
    trainee.model.train()
    if task == "seg":
        images = [x["image"] for x in helper.batch()]
        both = teacher.live_maps(images)["cls_logits"].softmax(1)
        alone = task_named(task).build(helper.config(file, *frozen)).distillation.teacher
        network = copy.deepcopy(trainee.model.network).eval()
        with torch.no_grad():
            ours = network(network.preprocess(images))["cls_logits"]
        theirs = alone.live_maps(images)["cls_logits"]
        assert ours.shape == theirs.shape == both.shape
        torch.testing.assert_close(both, (ours.softmax(1) + theirs.softmax(1)) / 2, rtol=1e-4, atol=1e-5)


def test_a_step_is_timed_with_it(monkeypatch):
    seen = []
    monkeypatch.setattr(ModelEMA, "after_step", lambda hook: seen.append(hook.model))
    cfg = task_named("seg").load_config(str(scenes.STUDENT), [*scenes.SMALL, *AVERAGE])
    assert seconds_per_iteration(task_named("seg"), {"mean": cfg})["mean"] > 0
    assert len(seen) == WARM_UP + 2 * TURNS


def test_what_it_cannot_be_is_refused_in_one_line(capsys, tmp_path):
    for task, keys, said in (
        ("seg", ["SOLVER.EMA_DECAY", "0"], f"{WEIGHTS} is average, and SOLVER.EMA_DECAY is 0: set it to the decay of"),
        (
            "seg",
            ["DISTILL.TEACHER.CACHE", "c"],
            "DISTILL.TEACHER.CACHE is c, which has no effect on the student's average",
        ),
        (
            "det",
            ["DISTILL.TEACHER.CACHE", "c"],
            "DISTILL.TEACHER.CACHE is c, which has no effect on the student's average",
        ),
        ("det", ["DISTILL.TEACHER.CONFIG_FILE", tiny.TEACHER], f"DISTILL.TEACHER.CONFIG_FILE is {tiny.TEACHER}, "),
        (
            "seg",
            ["DISTILL.TEACHER.COMPILE", "True"],
            "DISTILL.TEACHER.COMPILE is True, which has no effect on the student's average",
        ),
        ("seg", ["DISTILL.TEACHER.PRECISION", "float16"], "DISTILL.TEACHER.PRECISION is float16, and the student's av"),
        ("det", ["DISTILL.INHERIT", "['neck']"], "DISTILL.INHERIT: the teacher is the student's average: leave it em"),
        ("det", ["MODEL.META_ARCHITECTURE", "GeneralizedRCNN"], "DISTILL.TEACHER is set, but MODEL.META_ARCHITECTURE"),
        ("seg", ["DISTILL.TEACHER.MORE", TWICE], "DISTILL.TEACHER.MORE: average is named 2 times: na"),
    ):
        helper, file = TASKS[task]
        argv = ["--config-file", file, *helper.SMALL, *AVERAGE, "OUTPUT_DIR", tmp_path / "out", *keys]
        assert complaint(capsys, "train", task, *argv).startswith(said)
    assert not (tmp_path / "out").exists()


def test_a_script_that_would_not_keep_it_is_refused():
    model = build_model(tiny.config(tiny.STUDENT, *AVERAGE)).train()
    with pytest.raises(UserError, match=r"WEIGHTS: nothing here updates the average: train with `densedist train"):
        model(tiny.batch())
