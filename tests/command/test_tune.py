"""densedist tune from its command line to a config that trains, and a run that somebody watches and ends."""

import json
from functools import partial

import pytest
from matplotlib.image import imread

from densedist import api
from densedist.common.engine.hooks import RunEnded
from densedist.common.engine.train import train
from densedist.common.report.history import read_history
from densedist.common.tune.search import Search
from densedist.seg.task import TASK
from helpers.calling import complaint, densedist
from helpers.scenes import SMALL, STUDENT, save_teacher


@pytest.mark.drawn
def test_two_trials_and_the_final_training(tmp_path, capsys, monkeypatch):
    out, keys = tmp_path / "out", [*SMALL, *save_teacher(tmp_path / "teacher"), "TEST.EVAL_PERIOD", "500"]
    # Else 28 steps would tell.
    monkeypatch.setattr(api, "Search", partial(Search, pace=lambda task, cfgs: dict.fromkeys(cfgs, 1.0)))
    options = ["--methods", "dist@TAU=1..8;DECAY=none,linear", "--budget", "4", "--trials", "2", "--output-dir", out]
    densedist("tune", "seg", STUDENT, *options, *keys, "SOLVER.MAX_ITER", "1000")
    found = json.loads((out / "trials.json").read_text())
    assert [row["state"] for row in found["trials"]] == ["complete"] * 2
    assert {row["iterations"] for row in found["trials"]} == {4}
    first = out / "trials" / "0" / "seed0"
    assert found["trials"][0]["seeds"].keys() == {"0"}
    log = (first / "log.txt").read_text()
    assert "dist(cls_logits at stride 8, 8x8)" in log
    written = (first / "config.yaml").read_text()
    assert "train[:10]" in written  # of the 12 images that there are
    assert "train[10:12]" in written
    assert len([line for line in (first / "metrics.json").read_text().splitlines() if "mIoU" in line]) == 2
    assert imread(out / "search.png").any()
    assert (out / "table.md").read_text() in capsys.readouterr().out
    final = ["--config-file", out / "best.yaml", "OUTPUT_DIR", tmp_path / "final"]
    densedist("train", "seg", *final)
    written = (tmp_path / "final" / "config.yaml").read_text()
    assert "MAX_ITER: 4\n" in written
    assert "train[:100]" in written  # as the student's config says
    assert json.loads((tmp_path / "final" / "results.json").read_text())["sem_seg"]


def test_watched_run_ends_cleanly_and_goes_on(tmp_path):
    words = [*SMALL, "SOLVER.MAX_ITER", "6", "TEST.EVAL_PERIOD", "2", "SEED", "1", "OUTPUT_DIR", str(tmp_path)]
    cfg = TASK.load_config(str(STUDENT), words)
    told = []

    def watch(iteration, value):
        told.append((iteration, value))
        if len(told) == 2:
            raise RunEnded

    with pytest.raises(RunEnded):
        train(cfg, TASK, watch=watch)
    assert [iteration for iteration, _ in told] == [2, 4]
    assert read_history(tmp_path)["sem_seg/mIoU"][-1].value == told[-1][1]  # it is written although the run ended
    assert "Exception" not in (tmp_path / "log.txt").read_text()
    assert not (tmp_path / "model_final.pth").exists()
    before = list(told)
    train(cfg, TASK, resume=True, watch=watch)
    assert told[2:] == before[1:]  # the evaluation at which it ended is repeated; the last one is not on the way
    assert (tmp_path / "model_final.pth").is_file()


def test_command_lines_that_say_two_things(capsys):
    given = ["tune", "seg", "c", "--methods", "kd", "--budget", "1"]
    message = complaint(capsys, *given, "--val", "val", "--set-aside", "0.3")
    assert message == "argument --set-aside: not allowed with argument --val"
    assert complaint(capsys, *given[:5]) == "the following arguments are required: --budget"
