"""The benchmarks that need both tasks run, and count what they say. How fast anything is, is asserted nowhere."""

import copy
import json
from functools import partial
from pathlib import Path

import pytest
import torch

from benchmarks import launches, long_run, loops, losses, runs, step
from benchmarks.det import loop as det_loop
from benchmarks.det import teacher
from benchmarks.main import main
from benchmarks.seg import data, eval
from benchmarks.seg import loop as seg_loop
from benchmarks.seg.models import save_random as save_segmenter
from densedist.common.distill.registry import LOSSES
from densedist.common.engine.solver import make_optimizer
from densedist.common.engine.trainer import build_trainer
from densedist.common.profile import report
from densedist.det.config import without_distillation
from densedist.seg.models import build_segmenter
from densedist.seg.networks.network import load_network
from helpers import scenes
from helpers.tiny import STUDENT, TEACHER, batch, build_student, config, save_teacher

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def figures(file):
    return {result["name"]: result for result in json.loads(file.read_text())["results"]}


def test_eval_counts_as_cityscapesscripts(tmp_path, capsys):
    eval.main(CPU, tmp_path / "f.json", (128, 256))
    assert "cityscapesscripts" in capsys.readouterr().out
    assert figures(tmp_path / "f.json")["ours"]["equal_counts"]


def test_data_of_every_loader(tmp_path):
    data.main(tmp_path / "f.json", (128, 256))
    seen = figures(tmp_path / "f.json")
    assert seen.keys() == {"decoding alone", "plain loader", "ours", "ours, prepared"}
    assert all(result["seconds"] > 0 for result in seen.values())


def test_short_runs_are_of_every_loss():
    built_in = {name for name, spec in LOSSES.items() if spec.make.__module__.startswith("densedist.")}
    assert built_in == {runs.ALONE, *(loss for pair in runs.PAIRS for loss in pair.losses)}
    wanted = {"float16", "bfloat16", "cache of boxes", "cache of maps", "cache of logits", "compiled teacher"}
    names = {way.name for pair in runs.PAIRS for way in runs.ways(pair, CPU)}
    assert names >= {*wanted, "cache of logits in 8 bits", "two processes"}


def test_a_short_run_that_fails_does_not_end_the_others(tmp_path, monkeypatch, capsys):
    wrong = runs.Way("no such loss", {"DISTILL.DIXT.WEIGHT": "1.0"})
    monkeypatch.setattr(runs, "PAIRS", runs.PAIRS[-1:])
    monkeypatch.setattr(runs, "ways", lambda pair, device: [wrong, runs.Way(runs.ALONE)])
    with pytest.raises(SystemExit):
        runs.main(CPU, tmp_path / "f.json", steps=2)
    failed, alone = figures(tmp_path / "f.json").values()
    assert "DISTILL.DIXT" in failed["failed"]
    assert failed["seconds"] is None
    assert alone["seconds"] > 0
    assert alone["loss"] > 0
    assert f"PSPNet from DeepLabV3: {runs.ALONE}" in capsys.readouterr().out


def test_launches_are_counted(tmp_path):
    keys = [word for pair in save_segmenter(runs.PAIRS[-1].teacher, tmp_path / "t.pth").items() for word in pair]
    one, two = (
        launches.measure(runs.PAIRS[-1].student, (64, 64), [*keys, "DISTILL.KD.WEIGHT", weight]) for weight in "01"
    )
    assert one.waits == two.waits == {}
    assert one.parts["losses of distillation"] == 5 + 3  # DIST: five kernels, and its weight in a sum
    assert two.parts["losses of distillation"] > one.parts["losses of distillation"]


def test_step_and_its_parts(tmp_path):
    cfg = config(STUDENT, *save_teacher(tmp_path))
    models = [build_student(c).train() for c in (cfg, without_distillation(cfg))]
    backbone = models[0].distillation.teacher.model.backbone
    teach = partial(backbone, torch.rand(1, 3, 64, 64))
    case = step.Case("tiny", *models, batch(), teach, more={"BOX": models[0]})
    step.main([case], torch.device("cpu"), tmp_path / "f.json")
    assert figures(tmp_path / "f.json")["tiny"]["seconds"].keys() == {"together", "student", "teacher", "+ BOX"}
    assert set(step.table([step.measure(case, torch.device("cpu"))])[0]) >= {"ratio", "+ BOX"}


def test_a_published_step_learns_what_ours_does(tmp_path):
    aux = "MODEL.AUX_HEAD.ENABLED", "True"
    teacher_keys = scenes.save_teacher(tmp_path, *aux, file=scenes.STUDENT)
    keys = "SOLVER.OPTIMIZER", "SGD", "SOLVER.BASE_LR", "0.1", "SOLVER.BASE_LR_END", "0.0", "MODEL.CLASS_WEIGHTS", "[]"
    cfg = scenes.config(scenes.STUDENT, *teacher_keys, *aux, *keys)
    teacher = load_network(scenes.config(teacher_keys[1]), teacher_keys[3], "WEIGHTS")
    torch.manual_seed(0)
    ours = build_segmenter(cfg).train()
    for module in ours.modules():
        if isinstance(module, torch.nn.Dropout | torch.nn.Dropout2d):
            module.p = 0.0  # else each draws its own
    before, theirs = copy.deepcopy(ours.network.state_dict()), copy.deepcopy(ours.network)
    samples = scenes.batch()
    images, labels = [sample["image"] for sample in samples], torch.stack([sample["sem_seg"] for sample in samples])
    published = seg_loop.published_step(theirs, teacher, make_optimizer(cfg, theirs), images, labels)
    loops.trainer_step(build_trainer(cfg, ours, make_optimizer(cfg, ours)), samples)()
    published()
    after = theirs.state_dict()
    moved = {name: x - before[name] for name, x in ours.network.state_dict().items() if x.is_floating_point()}
    still = [name for name, x in moved.items() if name.endswith("weight") and not x.any()]
    assert all(".bn1." in name for name in still)  # before a norm that starts at 0
    torch.testing.assert_close({name: after[name] - before[name] for name in moved}, moved, rtol=1e-3, atol=2e-5)


def test_both_loops(tmp_path, monkeypatch):
    monkeypatch.setattr(det_loop, "config", lambda _, device, *keys: config(STUDENT, *keys))
    device = torch.device("cpu")
    loops.main([det_loop.case(device, (64, 96))], device, tmp_path / "f.json")
    (result,) = figures(tmp_path / "f.json").values()
    assert result["seconds"].keys() == result["memory"].keys() == {"ours", "theirs"}


def test_teacher_beside_full_inference(tmp_path, monkeypatch):
    """On the small teacher of the digits."""
    monkeypatch.setattr(teacher, "config", lambda _, device: config(TEACHER))
    teacher.main(CPU, tmp_path / "f.json", (64, 96))
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

    for module in (losses, launches, step, loops, runs, teacher, data, eval, long_run):
        monkeypatch.setattr(module, "main", measured(module.__name__.rpartition(".")[2]))
    for task in ("det", "seg"):
        for part in ("step", "loop"):
            monkeypatch.setattr(f"benchmarks.{task}.{part}.case", lambda device, size: None)
    main(["all", "--json", str(tmp_path / "f.json")])
    printed = capsys.readouterr().out
    assert "PyTorch finds no GPU" in printed
    names = ["losses", "launches", "teacher", "step", "loops", "runs", "data", "eval", "long_run"]
    assert [line.partition("'")[0] for line in printed.splitlines() if "'s table; CPU" in line] == names
    seen = json.loads((tmp_path / "f.json").read_text())
    assert {name: part["results"] for name, part in seen.items()} == {name: [{"name": name}] for name in names}


def test_students_in_every_runtime(tmp_path, capsys):
    scenes.save_teacher(tmp_path / "a", file=scenes.STUDENT)
    (tmp_path / "a" / "weights.pth").rename(tmp_path / "a" / "model_final.pth")
    main(["runtimes", "--weights", str(tmp_path / "a"), "--json", str(tmp_path / "f.json")])
    (form,) = json.loads((tmp_path / "f.json").read_text())["results"]
    assert (form["model"], form["ran"], form["size"]) == ("a", "PyTorch", [64, 64])
    assert "| 64x64  | a, PyTorch |" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["runtimes"])
    assert "name the folders of trained students with --weights" in capsys.readouterr().err
