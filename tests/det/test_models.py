"""A checkpoint is found, understood and named by what lies beside it."""

import shutil

import pytest
import torch

from densedist.common.config import saved
from densedist.common.errors import UserError
from densedist.common.run_files import locate
from densedist.det.models import load_trained
from helpers.tiny import STUDENT, config, save_teacher


@pytest.fixture
def run(tmp_path):
    save_teacher(tmp_path, "DATASETS.CLASSES", [str(n) * 2 for n in range(10)], file=STUDENT)
    shutil.move(tmp_path / "weights.pth", tmp_path / "model_final.pth")
    return tmp_path


@pytest.mark.parametrize("name", ["", "model_final.pth"])
def test_folder_or_file_with_its_config(run, name):
    trained = load_trained(locate(str(run / name)))
    saved = torch.load(run / "model_final.pth", weights_only=True)["model"]
    assert all(torch.equal(saved[key], value) for key, value in trained.model.state_dict().items())
    assert not trained.model.training
    assert trained.classes[3] == "33"


def test_names_of_the_data_set_where_the_config_has_none(run):
    (run / "config.yaml").write_text(saved(config(STUDENT)))
    assert load_trained(locate(str(run))).classes[3] == "3"


def test_unknown_names_are_numbers(run):
    without_names = locate(str(run)).under("DATASETS.CLASSES", "[]", "DATASETS.TRAIN", "()")
    assert load_trained(without_names).classes[3] == "class 3"


def test_what_is_missing_is_named(run):
    with pytest.raises(UserError, match=r"--weights: there is no file nowhere"):
        locate("nowhere")
    (run / "model_final.pth").rename(run / "model_0000009.pth")
    with pytest.raises(UserError, match=r"there is no .*model_final.pth, as the run has not ended"):
        load_trained(locate(str(run)))
    (run / "config.yaml").unlink()
    with pytest.raises(UserError, match=r"there is no config.yaml next to .*: name its config with --config-file"):
        locate(str(run / "model_0000009.pth"))
