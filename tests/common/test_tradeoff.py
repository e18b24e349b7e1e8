"""Accuracy against latency: which scores count, and what has none."""

import json
from types import SimpleNamespace

import pytest

from densedist.common.config import saved
from densedist.common.errors import UserError
from densedist.common.int8 import RECORD
from densedist.common.latency import COMPILED, PYTORCH, Form
from densedist.common.timing import Latency
from densedist.common.tradeoff import Point, draw_tradeoff, points_of
from helpers.scenes import STUDENT, config

LATENCY = Latency(0.02, 0.03, 20)


def save_run(folder, score, *overrides):
    """A run without weights; what names its model."""
    folder.mkdir()
    cfg = config(STUDENT, *overrides)
    (folder / "config.yaml").write_text(saved(cfg))
    (folder / "results.json").write_text(json.dumps({"sem_seg": {"mIoU": score}}))
    return SimpleNamespace(name=folder.name, weights=SimpleNamespace(file=str(folder)))


@pytest.fixture
def subjects(tmp_path):
    models = [save_run(tmp_path / "teacher", 60.0), save_run(tmp_path / "student", 50.0)]
    return SimpleNamespace(models=models, cfg=config(STUDENT), metric="sem_seg/mIoU")


def forms(*names):
    return [Form(*name, (64, 64), {1: LATENCY}) for name in names]


def write_record(folder, test):
    rows = [{"name": "onnxruntime, INT8", "scores": {"sem_seg/mIoU": 49.5}}]
    (folder / RECORD).write_text(json.dumps({"test": test, "rows": rows}))


def test_scores_of_runs_and_of_exports(subjects, tmp_path):
    write_record(tmp_path, subjects.cfg.DATASETS.TEST)
    names = [("teacher", PYTORCH), ("student", PYTORCH), ("student", COMPILED), ("student", "onnxruntime, INT8")]
    points, missing = points_of(subjects, forms(*names, ("student", "OpenVINO, INT8")), tmp_path)
    assert [(point.model, point.ran, point.score) for point in points] == [
        (*name, score) for name, score in zip(names, (60.0, 50.0, 50.0, 49.5), strict=True)
    ]
    assert missing == [f"student, OpenVINO, INT8 (not in {tmp_path / RECORD}, or of other data)"]


def test_scores_of_other_data_do_not_count(subjects, tmp_path):
    write_record(tmp_path, ["train"])
    subjects.models.insert(1, save_run(tmp_path / "alone", 70.0, "DATASETS.TEST", "['train']"))
    names = [("alone", PYTORCH), ("student", "onnxruntime, INT8"), ("student", PYTORCH)]
    points, missing = points_of(subjects, forms(*names), tmp_path)
    assert [point.score for point in points] == [50.0]
    assert missing[0] == 'alone, PyTorch (its run "alone" was evaluated on other data (DATASETS.TEST))'
    assert missing[1].startswith("student, onnxruntime, INT8 (not in ")


def test_the_picture(tmp_path):
    points = [Point("teacher", PYTORCH, 60.0, LATENCY), Point("student", "onnxruntime, INT8", 49.5, LATENCY)]
    draw_tradeoff(points, "sem_seg/mIoU", "64x64", tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UserError, match="--picture: fewer than two scores are known"):
        draw_tradeoff(points[:1], "sem_seg/mIoU", "64x64", tmp_path / "b.png")
    assert not (tmp_path / "b.png").exists()
