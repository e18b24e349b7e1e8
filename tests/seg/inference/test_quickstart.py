"""The quickstart from data to table and picture, a few iterations long."""

import json
from dataclasses import replace

import pytest

from densedist.common.quickstart import run, table
from densedist.seg.task import TASK
from helpers.calling import accepted, advised
from helpers.scenes import SMALL
from helpers.tasks import with_methods


@pytest.mark.drawn
def test_quickstart_trains_six_models_and_draws_them(tmp_path, capsys, monkeypatch):
    short = ("SOLVER.MAX_ITER", "3", *SMALL)
    chosen = TASK.demonstration
    chosen = replace(chosen, test=(*chosen.test, *short))
    rows = run(with_methods(TASK, demonstration=chosen), tmp_path, seed=5)
    assert [row.name for row in rows] == [
        *("teacher", "student alone", "student alone, same time", "student, KD", "student, DIST"),
        "student, DIST, with unlabeled images",
    ]
    alone, same, dist = rows[1], rows[2], rows[4]
    assert alone.iterations == dist.iterations == 3
    assert same.iterations == round(3 * dist.training_seconds / alone.training_seconds)
    assert rows[0].parameters > alone.parameters == same.parameters == dist.parameters
    saved = json.loads((tmp_path / "results.json").read_text())
    assert saved["seed"] == 5
    measured = json.loads((tmp_path / "dist" / "results.json").read_text())["sem_seg"]
    assert saved["rows"][4]["metrics"] == {name: measured[name] for name in ("mIoU", "mACC", "pACC")}
    assert (tmp_path / "quickstart.png").stat().st_size > 10_000
    printed = capsys.readouterr().out
    assert table(rows) in printed
    commands = advised(printed)
    assert [command[:3] for command in commands] == [["train", "seg", "--config-file"]] * 6
    for command in commands:
        accepted(monkeypatch, *command, "--resume")  # their folders hold runs by now
    log = (tmp_path / "kd" / "log.txt").read_text()
    assert "·kd(cls_logits at stride " in log
    assert "dist(" not in log
