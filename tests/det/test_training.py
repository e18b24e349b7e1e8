"""train_det and eval_det from arguments to files: outputs, resume, stock loading, several processes."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model

from densedist.common.data import digits
from densedist.common.engine.train import evaluate
from densedist.det.models import load_config
from densedist.det.task import TASK
from helpers.calling import densedist
from helpers.processes import command, torchrun
from helpers.tiny import SMALL, STUDENT, TEACHER, save_teacher

ROOT = Path(__file__).parents[2]
SHORT = [*SMALL, "SOLVER.MAX_ITER", "4", "SOLVER.CHECKPOINT_PERIOD", "2", "DATASETS.TEST", "('digits_test',)"]


def train(output, *overrides, file=STUDENT, options=()):
    argv = ["--config-file", str(file), *options, "OUTPUT_DIR", str(output), *SHORT, *map(str, overrides)]
    densedist("train", "det", *argv)
    return Path(output)


@pytest.fixture(scope="module")
def teacher_keys(tmp_path_factory):
    return save_teacher(tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="module")
def distilled(tmp_path_factory, teacher_keys):
    return train(tmp_path_factory.mktemp("distilled"), *teacher_keys)


def test_files_in_the_output_folder(distilled):
    names = {"config.yaml", "metrics.json", "log.txt", "model_final.pth", "last_checkpoint", "results.json"}
    assert names <= {file.name for file in distilled.iterdir()}
    box = json.loads((distilled / "results.json").read_text())["bbox"]
    assert {"AP", "AP50", "AP75", *(f"AP-{name}" for name in digits.CLASSES)} <= set(box)
    lines = [json.loads(line) for line in (distilled / "metrics.json").read_text().splitlines()]
    assert any("loss_dist" in line and "train_seconds" in line for line in lines)


def test_plan_is_logged_before_the_first_iteration(distilled):
    log = (distilled / "log.txt").read_text()
    assert re.search(
        r"\n  data     training: digits_train_60; evaluation: \w+\n  start    random weights\n  student  ", log
    )
    assert "No checkpoint found" not in log
    assert log.index("loss     = task + 1.0·dist(cls_logits)") < log.index("Starting training")
    assert log.index("same 10 classes in the same order") < log.index("Starting training")
    assert "DistillRCNN (FPN + RPN + StandardROIHeads), 0." in log


def test_checkpoint_holds_the_plain_student_only(distilled):
    saved = torch.load(distilled / "model_final.pth", weights_only=True)["model"]
    cfg = load_config(
        str(distilled / "config.yaml"), ["DISTILL.TEACHER.CONFIG_FILE", "", "DISTILL.TEACHER.WEIGHTS", ""]
    )
    assert set(saved) == set(build_model(cfg).state_dict())


def test_distilled_student_loads_in_stock_detectron2(tmp_path, teacher_keys):
    """Trained from a stock config plus two keys; loaded by a process that knows nothing of this suite."""
    stock = tmp_path / "stock.yaml"
    cfg = get_cfg()
    cfg.merge_from_list(
        [
            *(
                "MODEL.BACKBONE.NAME",
                "build_resnet_fpn_backbone",
                "MODEL.FPN.IN_FEATURES",
                "['res2','res3','res4','res5']",
            ),
            *("MODEL.RESNETS.OUT_FEATURES", "['res2','res3','res4','res5']", "MODEL.RESNETS.STEM_OUT_CHANNELS", "8"),
            *("MODEL.RESNETS.RES2_OUT_CHANNELS", "16", "MODEL.RESNETS.WIDTH_PER_GROUP", "4"),
            *("MODEL.RESNETS.NORM", "BN", "MODEL.BACKBONE.FREEZE_AT", "0"),  # from nothing, so nothing may be frozen
            *("MODEL.FPN.OUT_CHANNELS", "8", "MODEL.ANCHOR_GENERATOR.SIZES", "[[16],[32],[64],[128],[256]]"),
            *("MODEL.RPN.IN_FEATURES", "['p2','p3','p4','p5','p6']", "MODEL.ROI_HEADS.NAME", "StandardROIHeads"),
            *("MODEL.ROI_HEADS.IN_FEATURES", "['p2','p3','p4','p5']", "MODEL.ROI_HEADS.NUM_CLASSES", "10"),
            *("MODEL.ROI_BOX_HEAD.NAME", "FastRCNNConvFCHead", "MODEL.ROI_BOX_HEAD.NUM_FC", "1"),
            *("MODEL.ROI_BOX_HEAD.FC_DIM", "16", "MODEL.DEVICE", "cpu", "DATASETS.TRAIN", "('digits_train',)"),
        ]
    )
    stock.write_text(cfg.dump())
    keys = ["MODEL.META_ARCHITECTURE", "DistillRCNN", *teacher_keys, "MODEL.FPN.IN_FEATURES"]
    keys += ["['res2','res3','res4','res5']", "INPUT.MIN_SIZE_TRAIN", "[128]", "SOLVER.MAX_ITER", "1"]
    keys += ["INPUT.MIN_SIZE_TEST", "128"]
    output = train(tmp_path / "out", *keys, file=stock)
    loading = f"""
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model
cfg = get_cfg()
cfg.merge_from_file({str(stock)!r})
model = build_model(cfg)
saved = torch.load({str(output / "model_final.pth")!r}, weights_only=True)["model"]
print(type(model).__name__, model.load_state_dict(saved, strict=False))
"""
    done = subprocess.run([sys.executable, "-c", loading], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "GeneralizedRCNN <All keys matched successfully>"


def test_resume_goes_on_with_iteration_and_schedule(tmp_path, teacher_keys):
    output = train(tmp_path, *teacher_keys)
    (output / "last_checkpoint").write_text("model_0000001.pth")
    before = torch.load(output / "model_final.pth", weights_only=True)
    train(tmp_path, *teacher_keys, options=["--resume"])
    assert "Starting training from iteration 2" in (output / "log.txt").read_text()
    after = torch.load(output / "model_final.pth", weights_only=True)
    assert after["iteration"] == before["iteration"] == 3
    schedule = [state["trainer"]["hooks"]["LRScheduler"] for state in (before, after)]
    assert schedule[0] == schedule[1]


def test_eval_only_and_eval_det_give_the_results_of_the_training(distilled, tmp_path):
    files = "results.json", "inference/coco_instances_results.json"
    wanted = [json.loads((distilled / file).read_text()) for file in files]
    assert wanted[1]
    weights = str(distilled / "model_final.pth")
    train(tmp_path / "a", "MODEL.WEIGHTS", weights, options=["--eval-only"])
    cfg = load_config(str(STUDENT), [*SHORT, "OUTPUT_DIR", str(tmp_path / "b")])
    evaluate(cfg, TASK, weights, "--weights")
    for folder in ("a", "b"):
        assert [json.loads((tmp_path / folder / file).read_text()) for file in files] == wanted


def test_evaluation_needs_no_teacher(distilled, tmp_path):
    gone = ["DISTILL.TEACHER.CONFIG_FILE", "gone.yaml", "DISTILL.TEACHER.WEIGHTS", "gone.pth"]
    train(tmp_path, *gone, "MODEL.WEIGHTS", distilled / "model_final.pth", options=["--eval-only"])
    assert (tmp_path / "results.json").exists()


def test_same_seed_same_weights(distilled, tmp_path, teacher_keys):
    again = torch.load(train(tmp_path, *teacher_keys) / "model_final.pth", weights_only=True)["model"]
    for name, value in torch.load(distilled / "model_final.pth", weights_only=True)["model"].items():
        assert torch.equal(value, again[name]), name


def test_coco_data_named_on_the_command_line_only(tmp_path):
    digits.ensure()
    entry = [["cells", str(digits.annotations("train")), str(digits.images("train"))]]
    output = train(
        tmp_path, "DATASETS.COCO_FORMAT", entry, "DATASETS.TRAIN", "('cells',)", "DATASETS.TEST", "('cells',)"
    )
    assert "AP-7" in json.loads((output / "results.json").read_text())["bbox"]


def test_teacher_with_masks_trains_with_the_same_tool(tmp_path):
    output = train(tmp_path, "SOLVER.MAX_ITER", "1", file=TEACHER)
    assert {"bbox", "segm"} == set(json.loads((output / "results.json").read_text()))
    assert "teacher  none: an ordinary training run" in (output / "log.txt").read_text()


def test_terminal_shows_a_bar_with_the_time_left(tmp_path, monkeypatch, capsys):
    for module in ("engine.train", "logging"):
        monkeypatch.setattr(f"densedist.common.{module}.on_terminal", lambda: True)
    train(tmp_path, "SOLVER.MAX_ITER", "21")
    shown = capsys.readouterr()
    assert re.search(r"21/21 \[\d+:\d+<00:00,.* loss=", shown.err)
    assert "plan" in shown.out
    assert "eta:" not in shown.out  # the bar says it
    assert "Average Precision" not in shown.out  # the scores are in one line
    assert re.search(r"\nscores   box AP [\d.]+, ", shown.out)
    log = (tmp_path / "log.txt").read_text()
    assert "eta:" in log
    assert "Average Precision" in log
    assert f"report   {tmp_path}/report.html" in shown.out
    monkeypatch.chdir(tmp_path)
    (advice,) = re.findall(r"next +.*\bdensedist (.*)", shown.out)
    densedist(*shlex.split(advice))
    assert list((tmp_path / "output/visualize").glob("*.png"))


def test_two_processes_under_torchrun(tmp_path, teacher_keys):
    """Those that --num-gpus starts train segmentation in tests/seg/test_training.py."""
    overrides = ["OUTPUT_DIR", str(tmp_path), *SHORT, "SOLVER.MAX_ITER", "2", *teacher_keys, "REHEARSAL", "True"]
    done = torchrun(2, ROOT / "tools/train_det.py", "--config-file", STUDENT, *overrides)
    assert done.code == 0, done.err
    assert "rehearsed a step" in (tmp_path / "log.txt.rank1").read_text()
    assert "2 processes" in (tmp_path / "log.txt").read_text()
    assert "loss_dist" in (tmp_path / "metrics.json").read_text()
    assert "AP" in json.loads((tmp_path / "results.json").read_text())["bbox"]
    assert (tmp_path / "model_final.pth").exists()


def test_tool_ends_with_one_line_and_exit_code_2(tmp_path):
    overrides = ["OUTPUT_DIR", tmp_path, *SMALL]
    done = command("eval", "det", "--config-file", STUDENT, "--weights", "gone.pth", *overrides)
    assert done.code == 2
    assert done.err.strip().splitlines()[-1] == "error: --weights: there is no file gone.pth"
    assert "Traceback" not in done.err


def test_adapters_are_kept_beside_the_student_and_resumed(tmp_path, teacher_keys):
    keys = [*teacher_keys, "DISTILL.MIMIC.WEIGHT", "1.0"]
    output = train(tmp_path, *keys)
    before = torch.load(output / "model_final.pth", weights_only=True)
    assert set(before["adapters"]) == {f"mimic.{i}.{kind}" for i in range(4) for kind in ("weight", "bias")}
    assert not any("adapter" in name for name in before["model"])
    (output / "last_checkpoint").write_text("model_0000003.pth")
    train(tmp_path, *keys, "SOLVER.MAX_ITER", "4", options=["--resume"])
    after = torch.load(output / "model_final.pth", weights_only=True)
    assert all(torch.equal(value, after["adapters"][name]) for name, value in before["adapters"].items())
