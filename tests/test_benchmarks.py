"""The benchmarks that need both tasks run, and count what they say. How fast anything is, is asserted nowhere."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

from densedist.common.benchmark import losses, step
from densedist.common.benchmark.measure import report
from densedist.det.benchmark import teacher
from densedist.det.config import without_distillation
from densedist.seg.benchmark import data, eval
from helpers.calling import densedist
from helpers.tiny import STUDENT, TEACHER, batch, config, save_teacher


@pytest.fixture(autouse=True)
def cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def figures(file):
    return {result["name"]: result for result in json.loads(file.read_text())["results"]}


def test_eval_counts_as_cityscapesscripts(tmp_path, capsys):
    eval.main(tmp_path / "f.json", (128, 256))
    assert "cityscapesscripts" in capsys.readouterr().out
    assert figures(tmp_path / "f.json")["ours"]["equal_counts"]


def test_data_of_every_loader(tmp_path):
    data.main(tmp_path / "f.json", (128, 256))
    seen = figures(tmp_path / "f.json")
    assert seen.keys() == {"decoding alone", "plain loader", "ours", "ours, prepared"}
    assert all(result["seconds"] > 0 for result in seen.values())


def test_step_and_its_parts(tmp_path):
    cfg = config(STUDENT, *save_teacher(tmp_path))
    models = [build_model(c).train() for c in (cfg, without_distillation(cfg))]
    backbone = models[0].distillation.teacher.model.backbone
    teach = partial(backbone, torch.rand(1, 3, 64, 64))
    case = step.Case("tiny", *models, batch(), teach, more={"BOX": models[0]})
    step.main([case], torch.device("cpu"), tmp_path / "f.json")
    assert figures(tmp_path / "f.json")["tiny"]["seconds"].keys() == {"together", "student", "teacher", "+ BOX"}
    assert set(step.table([step.measure(case, torch.device("cpu"))])[0]) >= {"ratio", "+ BOX"}


def test_teacher_beside_full_inference(tmp_path, monkeypatch):
    """On the small teacher of the digits."""
    monkeypatch.setattr(teacher, "config", lambda _, device: config(TEACHER))
    teacher.main(tmp_path / "f.json", (64, 96))
    seen = figures(tmp_path / "f.json")
    assert seen["ours, float32"]["error"] < 1e-4
    nothing, found = list(seen)[:2]
    assert "nothing found" in nothing
    assert "objects found" in found


def test_all_parts_one_below_the_other(tmp_path, monkeypatch, capsys):
    def measured(name):
        def main(*arguments):
            file = next(x for x in arguments if isinstance(x, Path))
            report(f"{name}'s table", [{"a": "1"}], [{"name": name}], torch.device("cpu"), file)

        return main

    for module in (losses, step, teacher, data, eval):
        monkeypatch.setattr(module, "main", measured(module.__name__.rpartition(".")[2]))
    for task in ("det", "seg"):
        monkeypatch.setattr(f"densedist.{task}.benchmark.step.case", lambda device, size: None)
    densedist("benchmark", "all", "--json", tmp_path / "f.json")
    printed = capsys.readouterr().out
    names = ["losses", "teacher", "step", "data", "eval"]
    assert [line.partition("'")[0] for line in printed.splitlines() if "'s table; CPU" in line] == names
    seen = json.loads((tmp_path / "f.json").read_text())
    assert {name: part["results"] for name, part in seen.items()} == {name: [{"name": name}] for name in names}
