"""Relative paths in a config are from its folder, else from the current one."""

import pytest

from densedist.common.config import find_config, load, read_file
from densedist.common.errors import UserError
from densedist.det.config import GRAMMAR


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder "mine" of a config, in the current folder."""
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "mine"


def read(folder, text):
    (folder / "config.yaml").write_text(text)
    return read_file(str(folder / "config.yaml"))


def test_the_folder_of_the_config_comes_first_and_then_the_current_one(folder, tmp_path):
    (folder / "teacher").mkdir()
    (tmp_path / "teacher").mkdir()
    (tmp_path / "weights.pth").touch()
    found = read(folder, "DISTILL: {TEACHER: {WEIGHTS: teacher}}\nMODEL: {WEIGHTS: weights.pth}\n")
    assert found == {"DISTILL": {"TEACHER": {"WEIGHTS": f"{folder}/teacher"}}, "MODEL": {"WEIGHTS": "weights.pth"}}


def test_a_base_in_another_folder_names_its_own(folder, tmp_path):
    (tmp_path / "data").mkdir()
    (folder / "data").mkdir()
    (folder / "base.yaml").write_text("DATASETS: {ROOT: data}\n")
    (tmp_path / "runs").mkdir()
    assert read(tmp_path / "runs", "_BASE_: ../mine/base.yaml\n")["DATASETS"]["ROOT"].endswith("/mine/data")


def test_names_of_data_sets_and_splits_stay(folder):
    for name in ("train", "photos", "digits", "boxes.json", "data.yaml"):
        (folder / name).mkdir()
    text = "DATASETS: {ROOT: digits, TRAIN: [train], UNLABELED: ['./photos[:3]', photos/x], COCO_FORMAT: [[train, "
    text += "[boxes.json], photos]], YOLO_FORMAT: [[train, data.yaml, train]], CLASSES: [{name: train}]}\n"
    assert read(folder, text)["DATASETS"] == {
        "ROOT": "digits",
        "TRAIN": ["train"],
        "UNLABELED": [f"{folder}/photos[:3]", f"{folder}/photos/x"],
        "COCO_FORMAT": [["train", [f"{folder}/boxes.json"], f"{folder}/photos"]],
        "YOLO_FORMAT": [["train", f"{folder}/data.yaml", "train"]],
        "CLASSES": [{"name": "train"}],
    }


def test_more_teachers(folder):
    (folder / "two.pth").touch()
    text = "DISTILL: {TEACHER: {MORE: [{WEIGHTS: two.pth, CONFIG_FILE: det/x.yaml}]}}\n"
    (more,) = read(folder, text)["DISTILL"]["TEACHER"]["MORE"]
    assert more == {"WEIGHTS": f"{folder}/two.pth", "CONFIG_FILE": "det/x.yaml"}


def test_a_path_means_the_same_from_any_current_folder(folder, monkeypatch):
    (folder / "weights.pth").touch()
    for current in (folder.parent, folder):
        monkeypatch.chdir(current)
        assert read(folder, "MODEL: {WEIGHTS: weights.pth}\n") == {"MODEL": {"WEIGHTS": f"{folder}/weights.pth"}}


@pytest.mark.parametrize("left", ["model_final.pth", "last_checkpoint", "metrics.json", "log.txt"])
def test_the_folder_of_a_run_is_no_place_for_paths_that_its_config_kept(folder, left):
    for name in ("model_best.pth", left):
        (folder / name).touch()
    text = "MODEL: {WEIGHTS: model_best.pth}\nDISTILL: {TEACHER: {WEIGHTS: model_best.pth}}\n"
    kept = {"MODEL": {"WEIGHTS": "model_best.pth"}, "DISTILL": {"TEACHER": {"WEIGHTS": "model_best.pth"}}}
    assert read(folder, text) == kept
    (folder / "mine.yaml").write_text(text)
    assert read_file(str(folder / "mine.yaml"))["MODEL"]["WEIGHTS"] == f"{folder}/model_best.pth"


def test_declared_names_with_a_slash_stay_and_factors_have_the_names_of_the_data(folder):
    for name in ("cells", "photos"):
        (folder / name).mkdir()
    text = "DATASETS: {COCO_FORMAT: [[cells/train, a.json, photos]], TRAIN: ['cells/train[:5]', photos/x], "
    text += "UNLABELED: [cells/train], TRAIN_REPEAT_FACTOR: [['cells/train[:5]', 2.0], [photos/x, 3.0]]}\n"
    assert read(folder, text)["DATASETS"] == {
        "COCO_FORMAT": [["cells/train", "a.json", f"{folder}/photos"]],
        "TRAIN": ["cells/train[:5]", f"{folder}/photos/x"],
        "UNLABELED": ["cells/train"],
        "TRAIN_REPEAT_FACTOR": [["cells/train[:5]", 2.0], [f"{folder}/photos/x", 3.0]],
    }


def test_a_folder_without_a_slash_is_found_where_no_data_set_has_its_name(folder):
    for name in ("pool", "labels", "declared", "val", "data/leftImg8bit/val"):
        (folder / name).mkdir(parents=True)
    text = "DATASETS: {ROOT: data, FOLDERS: [[declared, a, b]], TRAIN: [pool], "
    text += "UNLABELED: ['pool[:3]', declared, val, gone], PSEUDO_LABELED: [labels]}\n"
    found = read(folder, text)["DATASETS"]
    assert found["UNLABELED"] == [f"{folder}/pool[:3]", "declared", "val", "gone"]
    assert (found["PSEUDO_LABELED"], found["TRAIN"]) == ([f"{folder}/labels"], ["pool"])


@pytest.mark.parametrize("text", ["DATASETS: 3\n", "DATASETS: {COCO_FORMAT: 3}\n", "DISTILL: {TEACHER: {MORE: x}}\n"])
def test_what_has_another_form_is_left_to_the_check_of_keys(folder, text):
    read(folder, text)
    with pytest.raises(UserError, match=r"is .* in .*config\.yaml: want "):
        load(GRAMMAR, str(folder / "config.yaml"))


def test_a_base_and_modules_in_the_current_folder(folder, tmp_path):
    (tmp_path / "base.yaml").write_text("SEED: 3\n")
    (tmp_path / "my_loss.py").touch()
    found = read(folder, "_BASE_: base.yaml\nIMPORTS: [my_loss.py]\n")
    assert found == {"SEED": 3, "IMPORTS": [f"{tmp_path}/my_loss.py"]}


def test_a_mistyped_file_of_the_user(folder):
    (folder / "student.yaml").touch()
    with pytest.raises(UserError, match=r"did you mean mine/student\.yaml\?"):
        find_config("mine/studnet.yaml", "--config-file")
