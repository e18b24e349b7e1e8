"""What a run says about its schedule, and where its files are in the end."""

import logging
import warnings
from pathlib import Path

import pytest
from detectron2.config import CfgNode, get_cfg
from detectron2.utils.events import EventStorage

from densedist.common.engine.ending import evaluations, last_lines, on_the_way, schedule_warnings, scores_in_words
from densedist.common.logging import WARNINGS, printed_to_log, setup_logs


@pytest.fixture
def cfg(tmp_path):
    cfg = get_cfg()
    cfg.OUTPUT_DIR, cfg.DATASETS.TEST, cfg.MODEL.TRUST_PICKLE = str(tmp_path), ("val",), False
    cfg.DISTILL = CfgNode({"TEACHER": CfgNode({"WEIGHTS": "", "CONFIG_FILE": ""})})
    return cfg


def test_a_schedule_within_its_warm_up(cfg):
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.WARMUP_ITERS = 30, 50
    assert schedule_warnings(cfg) == [
        "SOLVER.MAX_ITER, 30, ends within SOLVER.WARMUP_ITERS, 50: the learning rate never reaches SOLVER.BASE_LR, so "
        "the model learns little or nothing; lower SOLVER.WARMUP_ITERS, e.g. to 3"
    ]
    cfg.SOLVER.MAX_ITER = 60
    assert schedule_warnings(cfg) == [
        "the learning rate rises for SOLVER.WARMUP_ITERS, 50, of SOLVER.MAX_ITER, 60, iterations, so the model learns "
        "little; lower SOLVER.WARMUP_ITERS, e.g. to 6"
    ]
    cfg.SOLVER.MAX_ITER = 200
    assert schedule_warnings(cfg) == []


@pytest.mark.parametrize(("period", "words"), [(0, "once, at the end"), (9, "once, at the end"), (4, "every 4 iter")])
def test_how_often_it_is_evaluated(cfg, period, words):
    cfg.TEST.EVAL_PERIOD, cfg.SOLVER.MAX_ITER = period, 9
    assert evaluations(cfg).startswith(f"  scored   {words}")
    assert ("gives curves" in evaluations(cfg)) == (period != 4)
    cfg.DATASETS.TEST = ()
    assert evaluations(cfg) == ""


def test_scores_without_those_of_classes():
    assert scores_in_words({"bbox": {"AP": 40.12, "AP50": float("nan"), "AP-car": 1.0}}) == "box AP 40.1, box AP50 -"
    assert scores_in_words({}) == ""


def test_the_last_lines(cfg, monkeypatch, tmp_path):
    monkeypatch.delenv("UV_RUN_RECURSION_DEPTH", raising=False)
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    weights = f"weights  {tmp_path}/model_final.pth"
    teach = f"teach    a student: DISTILL.TEACHER.WEIGHTS {tmp_path} in its training command"
    assert last_lines(cfg) == [weights, f"next     densedist visualize --weights {tmp_path}", teach]
    (tmp_path / "report.html").touch()
    (tmp_path / "model_best.pth").touch()
    cfg.DATASETS.TEST = ()
    best = f"{weights}; best checkpoint: {tmp_path}/model_best.pth"
    assert last_lines(cfg) == [f"report   {tmp_path}/report.html", best, teach]
    cfg.DISTILL.TEACHER.WEIGHTS = "teacher.pth"
    assert last_lines(cfg)[2:] == []
    cfg.DATASETS.TEST = ("val",)
    assert last_lines(cfg)[3:] == [f"export   densedist export --weights {tmp_path}"]


def test_a_brief_log_leaves_libraries_to_the_file(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(logging, "_warnings_showwarning", None)  # another test may have had warnings captured
    with warnings.catch_warnings():
        log = setup_logs(0, brief=True)
        warnings.simplefilter("always")
        warnings.warn("torch warns", stacklevel=1)
        logging.getLogger("detectron2.data.common").info("Serializing 3 elements")
        logging.getLogger("fvcore.common.checkpoint").warning("some keys are not there")
        logging.getLogger("densedist.seg.evaluation").info("a table")
        logging.getLogger("densedist.common.engine.train").info("plan")
        with printed_to_log():
            print("Average Precision")
            logging.getLogger("densedist.common.engine.train").info("seen")
        log.open(str(tmp_path), 0)
    log.flush()
    assert capsys.readouterr().out.splitlines() == ["warning: some keys are not there", "plan", "seen"]
    said = Path(tmp_path, "log.txt").read_text()
    for text in ("torch warns", "Serializing", "some keys", "a table", "plan", "seen", "Average Precision"):
        assert text in said
    logging.getLogger(WARNINGS).handlers.clear()


def test_only_a_run_that_goes_on_is_on_its_way(cfg):
    cfg.SOLVER.MAX_ITER = 3
    assert not on_the_way(cfg)
    for iteration, goes_on in ((2, True), (3, False)):
        with EventStorage(iteration):
            assert on_the_way(cfg) == goes_on
