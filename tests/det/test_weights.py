"""Weights that are refused: unsafe, unreadable, of another model, or never trained."""

import logging
import os
import pickle
import re

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from torch import nn

from densedist.common.distill.checks import check_trained
from densedist.common.engine.checkpoint import SafeCheckpointer, refuse_pickle
from densedist.common.engine.train import evaluate
from densedist.common.errors import UserError
from densedist.common.logging import recorded
from densedist.common.profile import as_if_trained
from densedist.det.models import load_config
from densedist.det.task import TASK
from helpers.calling import densedist
from helpers.tiny import SMALL, STUDENT, TEACHER, config, save_retinanet, save_teacher


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.fixture
def refused(tmp_path, capsys):
    """Runs train_det with the given overrides and returns its one line on standard error."""

    def call(*overrides):
        argv = ["--config-file", str(STUDENT), "OUTPUT_DIR", str(tmp_path / "out"), *SMALL, *map(str, overrides)]
        with pytest.raises(SystemExit) as stop:
            densedist("train", "det", *argv)
        assert stop.value.code == 2
        seen = capsys.readouterr().err
        assert "Traceback" not in seen
        metrics = tmp_path / "out" / "metrics.json"
        assert not metrics.exists() or not metrics.read_text()
        return seen.strip().splitlines()[-1].removeprefix("error: ").replace(f"{tmp_path}/", "")

    return call


@pytest.fixture(scope="module")
def teacher_keys(tmp_path_factory):
    return save_teacher(tmp_path_factory.mktemp("teacher"))


DANGER = "is a pickle, and reading one can run any program that its author hid in it; if you trust its origin, give"


@pytest.mark.parametrize("key", ["MODEL.WEIGHTS", "DISTILL.TEACHER.WEIGHTS"])
def test_pickle_is_not_opened(refused, tmp_path, teacher_keys, key):
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"model": {}, "__author__": Trap(tmp_path / "trap")}))
    seen = refused(*teacher_keys, key, tmp_path / "w.pkl")
    assert seen == f"{key}: w.pkl {DANGER} MODEL.TRUST_PICKLE True on the command line"
    assert not (tmp_path / "trap").exists()


def test_pickle_is_not_evaluated(tmp_path):
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(Trap(tmp_path / "trap")))
    cfg = load_config(str(STUDENT), [*SMALL, "OUTPUT_DIR", str(tmp_path / "out")])
    with pytest.raises(UserError, match=r"--weights: .*w\.pkl is a pickle"):
        evaluate(cfg, TASK, str(tmp_path / "w.pkl"), "--weights")
    assert not (tmp_path / "trap").exists()


@pytest.mark.parametrize("protocol", ["zip", "legacy", "bare pickle"])
def test_checkpoint_with_code_is_not_executed(refused, tmp_path, protocol):
    content = {"model": {}, "extra": Trap(tmp_path / "trap")}
    if protocol == "bare pickle":
        (tmp_path / "w.pth").write_bytes(pickle.dumps(content))
    else:
        torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=protocol == "zip")
    seen = refused("MODEL.WEIGHTS", tmp_path / "w.pth")
    assert seen == (
        "MODEL.WEIGHTS: w.pth cannot be read as a checkpoint: it is damaged, or holds more than tensors and plain "
        "values; save the model's state_dict() with torch.save"
    )
    assert not (tmp_path / "trap").exists()


def test_proposals_are_pickles_too(refused):
    seen = refused("MODEL.LOAD_PROPOSALS", "True", "DATASETS.PROPOSAL_FILES_TRAIN", "('boxes.bin',)")
    assert seen == f"DATASETS.PROPOSAL_FILES: boxes.bin {DANGER} MODEL.TRUST_PICKLE True on the command line"


@pytest.mark.parametrize(
    ("path", "trusted"),
    [
        ("detectron2://ImageNetPretrained/MSRA/R-50.pkl", True),
        ("catalog://ImageNetPretrained/MSRA/R-50", True),
        ("https://dl.fbaipublicfiles.com/detectron2/COCO-Detection/x/model_final.pkl", True),
        ("http://dl.fbaipublicfiles.com/detectron2/x.pkl", False),
        ("https://dl.fbaipublicfiles.com.example.org/detectron2/x.pkl", False),
        ("https://example.org/x.pkl", False),
        ("x.pkl", False),
    ],
)
def test_only_the_catalog_of_detectron2_is_trusted(path, trusted):
    refuse_pickle(path, "MODEL.WEIGHTS", trust=True)
    if trusted:
        refuse_pickle(path, "MODEL.WEIGHTS", trust=False)
    else:
        with pytest.raises(UserError, match="is a pickle"):
            refuse_pickle(path, "MODEL.WEIGHTS", trust=False)


def test_pickle_is_read_where_the_config_trusts_it(tmp_path):
    content = {"model": {"weight": np.ones((1, 2), np.float32), "bias": np.ones(1, np.float32)}, "__author__": "us"}
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(content))
    model = nn.Linear(2, 1)
    SafeCheckpointer(model, trust_pickle=True).load(str(tmp_path / "w.pkl"))
    assert model.weight.tolist() == [[1, 1]]


def test_missing_weights_to_start_from(refused):
    assert refused("MODEL.WEIGHTS", "gone.pth") == "MODEL.WEIGHTS: there is no file gone.pth"


def test_weights_of_another_architecture_to_start_from(refused, tmp_path):
    torch.save({"encoder.weight": torch.ones(2)}, tmp_path / "w.pth")
    assert refused("MODEL.WEIGHTS", tmp_path / "w.pth") == (
        "MODEL.WEIGHTS: w.pth: of another architecture: no tensor fits the model, whose first is "
        "backbone.fpn_lateral2.weight, while the file's is encoder.weight; name weights of this model"
    )


def test_weights_of_another_width_to_start_from(tmp_path):
    torch.save({"weight": torch.ones(2, 3)}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"fits the model: its weight is \(2, 3\), the model's \(2, 1\); name"):
        SafeCheckpointer(nn.Linear(1, 2)).load(str(tmp_path / "w.pth"))


def test_weights_of_another_detector_to_start_from(refused, tmp_path):
    """Of which a few tensors fit: names that all detectors have, and biases as long."""
    save_retinanet(tmp_path / "retinanet", "MODEL.FPN.OUT_CHANNELS", "8")
    assert re.fullmatch(
        r"MODEL.WEIGHTS: retinanet/w.pth: of another model: it fills \d% of the model's backbone.bottom_up, want 75% "
        r"or more; its backbone.bottom_up.\S+ is \(24, .*\), the model's \(8, .*\); it holds backbone, head, the model "
        "has backbone, proposal_generator, roi_heads; name weights of this model, or of its backbone.bottom_up",
        refused("MODEL.WEIGHTS", tmp_path / "retinanet" / "w.pth"),
    )


def test_what_the_weights_to_start_from_lack_is_in_the_plan_and_a_warning(refused, tmp_path):
    """As weights for other classes, which are for the backbone and the proposals."""
    model = build_model(config(STUDENT, "MODEL.ROI_HEADS.NUM_CLASSES", "7"))
    torch.save({"model": model.state_dict()}, tmp_path / "w.pth")
    with recorded("densedist.common.engine.train") as said:
        refused("MODEL.WEIGHTS", tmp_path / "w.pth", "TRACKERS", "['mlflow']")  # a package that is not installed
    lacking = "parameters come from it; not roi_heads.box_predictor"
    (plan,) = (text for _, _, text in said if text.startswith("plan"))
    assert re.search(rf"\n  start    \S+w.pth\n  start    [\d,]+ of [\d,]+ {lacking}\n", plan)
    (warning,) = (text for _, level, text in said if level == logging.WARNING and "MODEL.WEIGHTS" in text)
    assert re.fullmatch(rf"MODEL.WEIGHTS: \S+w.pth: [\d,]+ of [\d,]+ {lacking}", warning)


def test_weights_of_another_architecture_where_adapters_are_trained(refused, tmp_path, teacher_keys):
    torch.save({"encoder.weight": torch.ones(2)}, tmp_path / "w.pth")
    seen = refused("MODEL.WEIGHTS", tmp_path / "w.pth", *teacher_keys, "DISTILL.MIMIC.WEIGHT", "1.0")
    assert seen == (
        "MODEL.WEIGHTS: w.pth: of another architecture: no tensor fits the model, whose first is "
        "backbone.fpn_lateral2.weight, while the file's is encoder.weight; name weights of this model"
    )


@pytest.mark.parametrize("content", [torch.ones(2), [1, 2], {"model": [3]}, {"model": {"weight": "text"}}, {}])
def test_file_that_is_no_checkpoint(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"MODEL\.WEIGHTS: .*w\.pth"):
        SafeCheckpointer(nn.Linear(2, 1)).load(str(tmp_path / "w.pth"))


def test_some_weights_are_enough_to_start_from(tmp_path):
    """As a pretrained backbone under new heads."""
    torch.save({"0.bias": torch.full((2,), 5.0)}, tmp_path / "w.pth")
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    SafeCheckpointer(model).load(str(tmp_path / "w.pth"))
    assert model[0].bias.tolist() == [5, 5]


def test_teacher_that_was_never_trained(refused, tmp_path):
    model = build_model(config(TEACHER))
    keys = save_teacher(tmp_path)
    torch.save({"model": model.state_dict()}, tmp_path / "weights.pth")
    assert refused(*keys).startswith(
        "DISTILL.TEACHER.WEIGHTS: weights.pth: backbone was never trained: all of its 30 biases and normalization "
        "weights are as they were initialized; give the weights of a trained model"
    )


def test_part_of_a_teacher_that_was_never_trained():
    model = build_model(config(TEACHER))
    as_if_trained(model.backbone)
    as_if_trained(model.roi_heads)
    with pytest.raises(UserError, match="proposal_generator was never trained"):
        check_trained(model, "DISTILL.TEACHER.WEIGHTS")
    model.proposal_generator.requires_grad_(False)  # frozen on purpose
    check_trained(model, "DISTILL.TEACHER.WEIGHTS")


def test_one_training_step_makes_a_trained_teacher():
    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4)), nn.Conv2d(4, 2, 1))
    nn.init.zeros_(model[1].bias)
    with pytest.raises(UserError, match="x: 0 was never trained: all of its 2 biases"):
        check_trained(model, "x")
    model(torch.randn(2, 3, 4, 4)).square().sum().backward()
    torch.optim.SGD(model.parameters(), lr=1e-4).step()
    check_trained(model, "x")
