"""Mistakes in data and weights of a segmentation: one line that names what to change, exit code 2, before training."""

import pickle

import pytest
import torch

from helpers.calling import densedist
from helpers.scenes import SMALL, STUDENT, save_teacher, write_tree


@pytest.fixture
def message(tmp_path, capsys):
    def call(*overrides):
        argv = ["--config-file", str(STUDENT), "OUTPUT_DIR", str(tmp_path / "out"), *SMALL, *map(str, overrides)]
        with pytest.raises(SystemExit) as stop:
            densedist("train", "seg", *argv)
        assert stop.value.code == 2
        seen = capsys.readouterr().err
        assert "Traceback" not in seen
        return seen.strip().splitlines()[-1].removeprefix("error: ").replace(f"{tmp_path}/", "")

    return call


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        (["DATASETS.TRAIN", "train"], "DATASETS.TRAIN is train in the command line: want a list, as ['one', 'two']"),
        (["DATASETS.TRAIN", "[3]"], "DATASETS.TRAIN: there is no folder "),
        (["SOLVER.IMS_PER_BATCH", "0"], "SOLVER.IMS_PER_BATCH is 0: want 1 or more"),
        (["MODEL.DEVICE", "cuda:99"], "MODEL.DEVICE is cuda:99, but this machine has "),
        (["MODEL.WEIGHTS", "gone.pth"], "MODEL.WEIGHTS: there is no file gone.pth"),
    ],
)
def test_values_that_cannot_be(message, overrides, wanted):
    assert message(*overrides).startswith(wanted)


@pytest.mark.parametrize("side", ["TRAIN", "UNLABELED", "TEST"])
def test_image_that_is_cut_off(message, tmp_path, side):
    image = sorted((write_tree(tmp_path / "town") / "leftImg8bit/train/town").iterdir())[1]
    image.write_bytes(image.read_bytes()[:500])
    others = [word for key in {"TRAIN", "TEST"} - {side} for word in (f"DATASETS.{key}", "[]")]
    seen = message("DATASETS.ROOT", tmp_path / "town", f"DATASETS.{side}", "['train']", *others)
    assert seen.startswith(
        f"DATASETS.{side}: 1 of 2 images cannot be used, first town/leftImg8bit/train/town/{image.name} is damaged: "
    )


def test_pickle_is_not_opened(message, tmp_path):
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"model": {}}))
    for keys in (["MODEL.WEIGHTS"], [*save_teacher(tmp_path / "t")[:2], "DISTILL.TEACHER.WEIGHTS"]):
        seen = message(*keys, tmp_path / "w.pkl")
        assert seen.startswith(f"{keys[-1]}: w.pkl is a pickle, and reading one can run any program")


def test_trust_in_pickles_is_not_for_the_teachers_config_to_say(message, tmp_path):
    keys = save_teacher(tmp_path / "t", "MODEL.TRUST_PICKLE", "True")
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"model": {}}))
    assert message(*keys[:3], tmp_path / "w.pkl").startswith("DISTILL.TEACHER.WEIGHTS: w.pkl is a pickle")


def test_weights_of_another_architecture_to_start_from(message, tmp_path):
    torch.save({"model": {"backbone.weight": torch.ones(2)}}, tmp_path / "w.pth")
    seen = message("MODEL.WEIGHTS", tmp_path / "w.pth")
    assert seen.startswith("MODEL.WEIGHTS: w.pth: of another architecture: no tensor fits the model, whose first is ")
    assert seen.endswith(", while the file's is backbone.weight; name weights of this model")
