"""What `label` says at its end."""

import shlex
from pathlib import Path

from densedist.common.labels.ending import keys_of_any, keys_of_student, last_lines, unused
from helpers.scenes import STUDENT, config

TEACHER = ["DISTILL.TEACHER.CONFIG_FILE", "t.yaml", "DISTILL.TEACHER.WEIGHTS", "t.pth"]
LABELS = ["DATASETS.PSEUDO_LABELED", "['out/train']"]


def pairs(words):
    return dict(zip(words[::2], words[1::2], strict=True))


def test_a_known_student_trains_without_distillation_in_a_folder_of_its_own(tmp_path):
    keys = ["DATASETS.UNLABELED", "['pool']", "DISTILL.KD.WEIGHT", "2.0"]
    given = [*TEACHER, *keys, "OUTPUT_DIR", str(tmp_path / "student"), "SEED", "3"]
    words = keys_of_student(config(STUDENT, *given), LABELS, Path("out/labels"), given)
    assert pairs(words) == {
        **pairs(TEACHER),
        "DATASETS.UNLABELED": "[]",
        "DISTILL.DIST.WEIGHT": "0",
        "DISTILL.KD.WEIGHT": "0",
        "SEED": "3",
        "OUTPUT_DIR": str(tmp_path / "student_labels"),
        "DATASETS.PSEUDO_LABELED": "['out/train']",
    }


def test_a_student_without_a_teacher_keeps_its_keys():
    cfg = config(STUDENT)
    assert keys_of_student(cfg, LABELS, Path("out")) == ["OUTPUT_DIR", f"{cfg.OUTPUT_DIR}_out", *LABELS]


def test_each_folder_of_labels_has_a_run_of_its_own():
    cfg = config(STUDENT)
    runs = [pairs(keys_of_student(cfg, LABELS, Path(folder)))["OUTPUT_DIR"] for folder in ("out/one", "out/two")]
    assert runs == [f"{cfg.OUTPUT_DIR}_one", f"{cfg.OUTPUT_DIR}_two"]


def test_paths_of_the_advice_are_from_the_current_folder(tmp_path, monkeypatch):
    """Those of a config are absolute, and those of an option are as the user wrote them."""
    monkeypatch.chdir(tmp_path)
    record = {"classes": {"cat": {"labels": 3}}}
    elsewhere = f"/other{tmp_path}/x"
    start = [
        "OUTPUT_DIR",
        f"{tmp_path}/run_out",
        "DATASETS.PSEUDO_LABELED",
        f"['{tmp_path}/old', 'out', '{elsewhere}']",
    ]
    *_, keys = last_lines(Path("out"), record, start)
    assert shlex.split(keys) == ["OUTPUT_DIR", "run_out", "DATASETS.PSEUDO_LABELED", f"['old', 'out', '{elsewhere}']"]


def test_any_student_gets_no_teacher():
    assert pairs(keys_of_any(LABELS, "out")) == {
        "DATASETS.PSEUDO_LABELED": "['out/train']",
        "DISTILL.TEACHER.WEIGHTS": "",
        "DISTILL.TEACHER.CONFIG_FILE": "",
        "OUTPUT_DIR": "out_student",
    }


def test_a_folder_that_holds_a_run_is_not_named_again(tmp_path):
    for name in ("run", "run_2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model_final.pth").touch()
    assert unused(f"{tmp_path}/run") == f"{tmp_path}/run_3"


def test_the_page_and_the_command_are_named(tmp_path):
    (tmp_path / "labels.html").touch()
    record = {"classes": {"cat": {"labels": 3, "score": 0.5}, "dog": {"labels": 0, "score": 0.5}}}
    page, remark, words, command = last_lines(tmp_path, record, ["train", "--config-file", "my student.yaml"])
    assert page == f"page     {tmp_path}/labels.html"
    assert remark == "There are no labels, or hardly any, of dog (1 of 2 classes)"
    assert words == (
        "To train the student on its data and these labels "
        "(every distillation loss is off, so the teacher is not loaded):"
    )
    assert shlex.split(command)[-4:] == ["densedist", "train", "--config-file", "my student.yaml"]
    *_, keys = last_lines(tmp_path, record, ["SEED", "3"])
    assert keys == "SEED 3"
    record["classes"]["cat"]["labels"] = 0
    assert last_lines(tmp_path, record, ["SEED", "3"])[1].startswith("Nothing to train on: ")
