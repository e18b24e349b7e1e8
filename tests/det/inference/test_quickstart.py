"""The quickstart from data to table and picture, a few iterations long."""

import json
from dataclasses import replace

import pytest

from densedist.common.quickstart import run
from densedist.det.task import TASK
from helpers.tasks import with_methods
from helpers.tiny import SMALL

SHORT = ["SOLVER.MAX_ITER", "2", *SMALL]


@pytest.mark.drawn
@pytest.mark.slow  # the other task's takes the same way
def test_quickstart_trains_six_models_and_draws_them(tmp_path):
    chosen = TASK.demonstration
    chosen = replace(chosen, test=(*chosen.test, *SHORT))
    rows = run(with_methods(TASK, demonstration=chosen), tmp_path, seed=5)
    names = ["teacher", "student alone", "student alone, same time", "student, KD", "student, DIST"]
    names.append("student, DIST, with unlabeled images")
    assert [row.name for row in rows] == names
    saved = json.loads((tmp_path / "results.json").read_text())
    for row, folder in zip(
        saved["rows"], ("teacher", "alone", "alone_same_time", "kd", "dist", "dist_unlabeled"), strict=True
    ):
        measured = json.loads((tmp_path / folder / "results.json").read_text())["bbox"]
        assert row["metrics"] == {name: measured[name] for name in ("AP", "AP50", "AP75")}
        assert "SEED: 5" in (tmp_path / folder / "config.yaml").read_text()
    assert (tmp_path / "quickstart.png").stat().st_size > 10_000
