"""densedist profile from its command line to the table. How fast anything is depends on the machine."""

import json

import pytest
import torch
from torch import nn

from densedist.common.profile import multiply_adds
from helpers import scenes, tiny
from helpers.calling import complaint, densedist

SIDES = {"seg": (scenes, "random images"), "det": (tiny, "images of digits_val, resized")}


@pytest.fixture
def profile(monkeypatch):
    def call(*argv):
        monkeypatch.setattr("densedist.common.profile.BATCHES", (1, 2))
        densedist("profile", *argv)

    return call


def save_run(folder, side, *overrides):
    """A student in folder and its teacher in folder/teacher."""
    builders = SIDES[side][0]
    folder.mkdir(exist_ok=True)
    keys = builders.save_teacher(folder / "teacher")
    builders.save_teacher(folder, *keys, *overrides, file=builders.STUDENT)
    (folder / "weights.pth").rename(folder / "model_final.pth")


@pytest.mark.parametrize("side", list(SIDES))
def test_teacher_and_student_side_by_side(side, profile, tmp_path, capsys):
    save_run(tmp_path, side)
    sizes = [[64, 64], [64, 96]] if side == "seg" else [[64, 96]]  # a detector's takes seconds
    words = [word for size in sizes for word in ("--size", *size)]
    profile("--weights", tmp_path, *words, "--json", tmp_path / "figures.json")
    seen = capsys.readouterr().out
    assert f"Inference of {SIDES[side][1]}" in seen
    assert seen.count("times as fast as its teacher") == len(sizes)
    results = json.loads((tmp_path / "figures.json").read_text())["results"]
    assert [(r["name"], r["size"]) for r in results] == [
        (name, size) for size in sizes for name in ("teacher", "student")
    ]
    teacher, student = results[:2]
    for figure in ("parameters", "multiply_adds", "memory"):
        assert teacher[figure] > student[figure] > 0
    assert student["seconds"].keys() == {"1", "2"}
    weights = torch.load(tmp_path / "model_final.pth", weights_only=True)["model"]
    counted = sum(v.numel() for k, v in weights.items() if "running" not in k and "num_batches" not in k)
    assert student["parameters"] == counted


def test_student_alone(profile, tmp_path, capsys):
    save_run(tmp_path, "seg")
    profile("--weights", tmp_path, "--teacher", "none", "--size", 64, 64)
    seen = capsys.readouterr().out
    assert "Without a teacher" in seen
    assert "teacher /" not in seen


def test_teacher_that_is_gone(profile, tmp_path, capsys):
    save_run(tmp_path, "seg")
    (tmp_path / "teacher" / "weights.pth").unlink()
    with pytest.raises(SystemExit) as stop:
        profile("--weights", tmp_path)
    assert stop.value.code == 2
    assert capsys.readouterr().err == (
        f"error: DISTILL.TEACHER.WEIGHTS: there is no file {tmp_path}/teacher/weights.pth; "
        "name the teacher with --teacher, or give --teacher none\n"
    )


def test_half_a_size(tmp_path, capsys):
    assert complaint(capsys, "profile", "--weights", tmp_path, "--size", 64) == "argument --size: expected 2 arguments"
    assert complaint(capsys, "profile", "--weights", tmp_path, "--size", 0, 9) == "--size is 0: want 1 or more"


def test_multiply_adds_by_hand():
    layer = nn.Conv2d(3, 4, 3, padding=1)
    assert multiply_adds(layer, torch.zeros(1, 3, 5, 6))[0] == 3 * 3 * 3 * 4 * 5 * 6


def test_nothing_is_called_an_error_or_uncounted_that_is_not(tmp_path, profile, capfd):
    save_run(tmp_path, "seg")
    profile("--weights", tmp_path, "--teacher", "none")
    seen = capfd.readouterr()
    assert "operations, copies, normalization." in seen.out
    assert "ERROR" not in seen.err
    assert "USDT" not in seen.err
