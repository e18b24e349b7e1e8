"""docs/labels.md, "A second round": its commands as they stand, but with two seeds and one iteration."""

import json
import re
import shlex
from pathlib import Path

import pytest

from densedist.common.config import saved
from densedist.common.data import digits
from helpers import scenes, tiny
from helpers.calling import densedist

PAGE = Path(__file__).parents[2] / "docs" / "labels.md"
FEWER = {"0,1,2": "0,1", "|output/rounds/labels/seed2": "", "--weights output/rounds/labels/seed2": ""}


def commands(task):
    section = PAGE.read_text().partition("## A second round")[2]
    text = "".join(re.findall(r"```sh[^\n]*\n(.*?)```", section, re.DOTALL)).replace("\\\n", " ")
    for many, few in {**FEWER, "labels2/train": "labels2/train" if task == "seg" else "labels2"}.items():
        assert many in text
        text = text.replace(many, few)
    return [shlex.split(line.replace(" seg ", f" {task} ")) for line in text.splitlines()]


@pytest.mark.slow  # a dozen runs
@pytest.mark.parametrize("task", ["seg", "det"])
def test_students_of_the_first_round_label_for_the_second(task, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for module in ("densedist.common.compare.labels", "densedist.api"):  # such students are sure of nothing
        monkeypatch.setattr(f"{module}.SCORE", 0.0)
    helper = scenes if task == "seg" else tiny
    helper.save_teacher(tmp_path / "teacher")
    (tmp_path / "output").mkdir()
    (tmp_path / "teacher").rename(tmp_path / "output" / "teacher")
    (tmp_path / "output" / "teacher" / "weights.pth").rename(tmp_path / "output" / "teacher" / "model_final.pth")
    keys = ["SOLVER.MAX_ITER", "1", "DISTILL.TEACHER.WEIGHTS", "output/teacher", "TEST.EXAMPLES", "0"]
    keys += ["DATASETS.TEST", "['test']" if task == "seg" else "('digits_test',)"]
    keys += ["DATASETS.IGNORED_IDS", "[255]"] if task == "seg" else []
    (tmp_path / "photos").symlink_to(digits.images("val"))
    (tmp_path / "student.yaml").write_text(saved(helper.config(helper.STUDENT, *keys)))
    for command in commands(task):
        densedist(*command[3:])
    results = json.loads((tmp_path / "output" / "rounds" / "results.json").read_text())
    second = next(method for method in results["methods"] if "|" in method)
    assert list(results["methods"]) == ["none", "labels", second]
    assert all(len(results["methods"][method]["seeds"]) == 2 for method in results["methods"])
    records = [json.loads(file.read_text()) for file in tmp_path.glob("output/rounds/teacher_labels/*/labels.json")]
    records.append(json.loads((tmp_path / "output" / "labels2" / "labels.json").read_text()))
    assert sorted(len(record["teachers"]) for record in records) == [1, 2, 2]
    assert all(record["images"] == digits.SCENES["val"] for record in records)
    assert (tmp_path / "output" / "last" / "model_final.pth").is_file()
