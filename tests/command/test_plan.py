"""densedist plan from its command line to the tables."""

import json

import pytest

from helpers import scenes
from helpers.calling import complaint, densedist

PAIR = ["--config-file", scenes.STUDENT, "DISTILL.TEACHER.CONFIG_FILE", scenes.TEACHER]
NOT_THERE = ["DISTILL.TEACHER.WEIGHTS", "not/there.pth", "DATASETS.TRAIN", "['not_there']"]


def test_a_plan_needs_no_data_and_no_weights(tmp_path, capsys):
    file, picture = tmp_path / "plan.json", tmp_path / "plan.png"
    densedist("plan", *PAIR, *NOT_THERE, "--card", "h100-80", "--gpus", 4, "--json", file, "--draw", picture)
    seen = capsys.readouterr().out
    assert "4 x H100 SXM 80 GB, 2 images of 128x128 on each" in seen
    assert "Computed, not measured. The times are lower bounds" in seen
    assert picture.stat().st_size > 0
    plan = json.loads(file.read_text())
    parts, ways = plan["parts"], {way["title"]: way for way in plan["ways"]}
    assert parts["backward"]["flops"] > parts["student, forward"]["flops"] > 0
    assert parts["teacher, what a cache keeps"]["flops"] > 0
    first = ways["as the config says"]
    assert first["seconds"] == pytest.approx(sum(part["seconds"] for part in parts.values()))
    assert ways["cached teacher"]["seconds"] < first["seconds"]
    assert ways["AMP in bfloat16, cached teacher"]["seconds"] < ways["cached teacher"]["seconds"]
    assert ways["AMP in bfloat16"]["memory"] < first["memory"]
    assert plan["ways"][-1]["images"] > first["images"]
    assert plan["ways"][-1]["fits"]
    assert plan["memory"]["teacher's weights"] > 0


def test_what_a_config_has_already_is_not_proposed(tmp_path, capsys):
    keys = ["SOLVER.AMP.ENABLED", "True", "SOLVER.AMP.PRECISION", "bfloat16", "SOLVER.ACCUMULATION_STEPS", 2]
    densedist("plan", "--config-file", scenes.STUDENT, "--card", "v100-32", "--size", 64, 64, *keys)
    seen = capsys.readouterr().out
    assert "4 images of 64x64 on each, 2 times a step" in seen
    assert "AMP in" not in seen
    assert "teacher" not in seen


def test_what_cannot_be_planned_is_one_line(capsys):
    words = ["plan", "--config-file", scenes.STUDENT, "--card"]
    unknown = complaint(capsys, *words, "a100")
    assert unknown.startswith("--card: there is no card a100; want one of h100-80, ")
    assert unknown.endswith("; did you mean a100-40 or a100-80?")
    assert complaint(capsys, *words, "h200", "--gpus", 0) == "--gpus is 0: want 1 or more"
    assert complaint(capsys, *words, "h200", "--gpus", 3) == (
        "SOLVER.IMS_PER_BATCH is 8: want a multiple of 3, for 3 process(es) and SOLVER.ACCUMULATION_STEPS 1"
    )
    assert "SOLVER.MAX_ITERS" in complaint(capsys, *words, "h200", "SOLVER.MAX_ITERS", 3)
    assert "UNet9" in complaint(capsys, *words, "h200", "MODEL.ARCHITECTURE", "UNet9")
    teacher = ["--config-file", scenes.TEACHER, "--card", "h200", "--size", 64, 64, "SOLVER.IMS_PER_BATCH", 1]
    fails = complaint(capsys, "plan", *teacher)
    assert fails.startswith("a training step fails: ValueError: Expected more than 1 value per channel")
