"""densedist compare from its command line to the table."""

import json
import re

import pytest
from matplotlib.image import imread

from densedist.common.compare import pace
from helpers.calling import densedist
from helpers.scenes import SMALL, STUDENT, save_teacher


@pytest.fixture
def compare(tmp_path):
    def call(methods, *overrides):
        options = ["--methods", methods, "--seeds", "3", "--output-dir", str(tmp_path / "out")]
        short = [*SMALL, "SOLVER.MAX_ITER", "2", "DATASETS.TEST", "['test']"]
        densedist("compare", "seg", STUDENT, *options, *short, *overrides)

    return call


@pytest.mark.drawn
def test_two_methods_end_in_a_table(compare, tmp_path, capsys):
    compare("none,dist+mimic", *save_teacher(tmp_path / "teacher"))
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    for method in ("none", "dist+mimic"):
        folder = tmp_path / "out" / method / "seed3"
        of_seed = results["methods"][method]["seeds"]["3"]
        assert of_seed["value"] == json.loads((folder / "results.json").read_text())["sem_seg"]["mIoU"]
        assert of_seed["iterations"] == 2
    assert imread(tmp_path / "out" / "curves.png").any()
    assert (tmp_path / "out" / "table.md").read_text() in capsys.readouterr().out
    logs = [(tmp_path / "out" / m / "seed3" / "log.txt").read_text() for m in ("none", "dist+mimic")]
    assert "an ordinary training run" in logs[0]
    assert re.search(r"task \+ 1\.0·dist\(cls_logits at stride \d+, \d+x\d+\) \+ 1\.0·mimic\(features\)", logs[1])


def test_method_without_a_teacher_ends_in_one_line(compare, capsys):
    with pytest.raises(SystemExit) as stop:
        compare("kd")
    assert stop.value.code == 2
    assert "error: --methods: kd has no teacher or no loss" in capsys.readouterr().err


def test_equal_time_from_the_command_line(compare, tmp_path, monkeypatch):
    """The times are really taken, with models in memory that write nothing."""
    monkeypatch.setattr(pace, "TURNS", 3)
    compare("none,dist", "--equal-time", *save_teacher(tmp_path / "teacher"))
    assert sorted(file.name for file in (tmp_path / "out").iterdir() if file.is_dir()) == ["dist", "none"]
    written = json.loads((tmp_path / "out" / "seconds_per_iteration.json").read_text())
    paces = {method: entry["seconds"] for method, entry in written.items()}
    assert 0 < paces["none"] < 60
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    for method, seconds in paces.items():
        wanted = round(2 * max(paces.values()) / seconds)
        assert results["methods"][method]["seeds"]["3"]["iterations"] == wanted
