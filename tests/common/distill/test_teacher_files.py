"""DISTILL.TEACHER.WEIGHTS may be the OUTPUT_DIR of a finished run."""

import pytest

from densedist.common.distill.ensemble import configs_of_each
from densedist.common.distill.teacher_files import words_of_teacher
from densedist.common.errors import UserError
from densedist.det.config import GRAMMAR as DET
from densedist.det.models import read_config as read_det
from densedist.seg.config import GRAMMAR as SEG
from densedist.seg.models import read_config as read_seg
from helpers import scenes, tiny

TASKS = {"det": (read_det, DET, tiny), "seg": (read_seg, SEG, scenes)}


@pytest.fixture(params=TASKS)
def task(request):
    """How a config of the task is read with overrides, its grammar, and its overrides that make it a student."""
    read, grammar, side = TASKS[request.param]
    student = ["MODEL.META_ARCHITECTURE", "DistillRCNN"] if request.param == "det" else []
    return (lambda *keys: read(str(side.STUDENT), [*student, *map(str, keys)])), grammar


@pytest.fixture
def run(tmp_path):
    """A folder as of a run, with files that nobody opens here."""
    for name in ("config.yaml", "model_final.pth"):
        (tmp_path / name).touch()
    return tmp_path


def test_its_files_are_named(task, run):
    read, grammar = task
    named = {"CONFIG_FILE": str(run / "config.yaml"), "WEIGHTS": str(run / "model_final.pth")}
    teacher = read("DISTILL.TEACHER.WEIGHTS", run).DISTILL.TEACHER
    assert {key: teacher[key] for key in named} == named
    more = read("DISTILL.TEACHER.WEIGHTS", run, "DISTILL.TEACHER.MORE", [{"WEIGHTS": str(run)}])
    seen = [cfg.DISTILL.TEACHER for cfg in configs_of_each(more, grammar)]
    assert [{key: one[key] for key in named} for one in seen] == [named] * 2


def test_a_config_that_is_given_holds(task, run):
    read, _ = task
    teacher = read("DISTILL.TEACHER.WEIGHTS", run, "DISTILL.TEACHER.CONFIG_FILE", "mine.yaml").DISTILL.TEACHER
    assert teacher.CONFIG_FILE == "mine.yaml"
    assert teacher.WEIGHTS == str(run / "model_final.pth")


def test_a_run_that_has_not_ended_is_refused(task, run):
    (run / "model_final.pth").unlink()
    with pytest.raises(
        UserError, match=r"^DISTILL\.TEACHER\.WEIGHTS: there is no .*model_final\.pth, as the run has not"
    ):
        task[0]("DISTILL.TEACHER.WEIGHTS", run)


def test_keys_that_say_what_its_files_do_not_stand_for_those_of_its_config():
    said = ["FORMAT", "BGR", "PIXEL_MEAN", "[1.0, 2.0, 3.0]", "STRIDE", 32, "KIND", "onnx"]
    keys = [f"DISTILL.TEACHER.{word}" if place % 2 == 0 else str(word) for place, word in enumerate(said)]
    teacher = read_seg(str(scenes.STUDENT), keys).DISTILL.TEACHER
    words = words_of_teacher(teacher, SEG.keys())
    assert dict(zip(words[::2], words[1::2], strict=True)) == {
        "INPUT.FORMAT": "BGR",
        "MODEL.PIXEL_MEAN": "[1.0, 2.0, 3.0]",
        "MODEL.STRIDE": "32",
        "MODEL.KIND": "onnx",
    }
    assert words_of_teacher(read_seg(str(scenes.STUDENT), []).DISTILL.TEACHER, SEG.keys()) == []
