"""What a config may say; what it may not is in test_user_errors."""

import pytest
import yaml

from densedist.common.config import CONFIGS, MODEL_ZOO, load, saved
from densedist.common.config.repeated_keys import refuse_repeated_keys
from densedist.common.errors import UserError
from densedist.det.config import GRAMMAR


def read(file="", *overrides):
    return load(GRAMMAR, str(file), overrides)


def test_overrides_win_over_the_file_and_the_file_over_its_base(tmp_path):
    (tmp_path / "base.yaml").write_text("SOLVER: {BASE_LR: 0.1, MAX_ITER: 7, MOMENTUM: 0.5}\n")
    (tmp_path / "run.yaml").write_text("_BASE_: base.yaml\nSOLVER: {BASE_LR: 0.2, MAX_ITER: 8}\n")
    cfg = read(tmp_path / "run.yaml", "SOLVER.MAX_ITER", "9")
    assert (cfg.SOLVER.MOMENTUM, cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER) == (0.5, 0.2, 9)


def test_a_whole_number_will_do_for_a_float(tmp_path):
    (tmp_path / "run.yaml").write_text("DISTILL: {DIST: {TAU: 3}}\n")
    cfg = read(tmp_path / "run.yaml", "DISTILL.KD.WEIGHT", "2")
    assert (cfg.DISTILL.DIST.TAU, cfg.DISTILL.KD.WEIGHT) == (3.0, 2.0)
    assert isinstance(cfg.DISTILL.KD.WEIGHT, float)


def test_a_saved_config_loads_again(tmp_path):
    cfg = read("", "TRUST_IMPORTS", "True")
    (tmp_path / "config.yaml").write_text(saved(cfg))
    again = read(tmp_path / "config.yaml")
    assert yaml.safe_load(saved(again)) == yaml.safe_load(saved(cfg))
    assert not again.TRUST_IMPORTS  # it is for one command


def test_model_zoo_files_may_compute_their_values():
    cfg = read(MODEL_ZOO / "COCO-Detection" / "retinanet_R_50_FPN_1x.yaml")
    assert len(cfg.MODEL.ANCHOR_GENERATOR.SIZES[0]) == 3


@pytest.mark.parametrize("name", ["det/digits/base.yaml", "configs/det/digits/base.yaml"])
def test_packaged_configs_are_found_by_name_from_anywhere(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read(name).DATASETS.TRAIN == ("digits_train",)


@pytest.mark.parametrize("base", ["det/digits/base.yaml", "COCO-Detection/retinanet_R_50_FPN_1x.yaml"])
def test_base_may_be_a_name_too(base, tmp_path):
    (tmp_path / "mine.yaml").write_text(f"_BASE_: {base}\nSOLVER: {{MAX_ITER: 7}}\n")
    cfg = read(tmp_path / "mine.yaml")
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.IMS_PER_BATCH) == (7, 8 if "digits" in base else 16)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("SOLVER: {MAX_ITER: 1}\nTASK: det\nSOLVER: {BASE_LR: 0.1}\n", "SOLVER twice, in lines 1 and 3"),
        ("SOLVER:\n  MAX_ITER: 1\n  BASE_LR: 0.1\n  MAX_ITER: 2\n", "SOLVER.MAX_ITER twice, in lines 2 and 4"),
        ("SOLVER: {MAX_ITER: 1, 'MAX_ITER': 1}\n", "SOLVER.MAX_ITER twice, in lines 1 and 1"),
        (
            "DISTILL:\n  TEACHER:\n    MORE:\n    - {WEIGHTS: a,\n       WEIGHTS: b}\n",
            "MORE[0].WEIGHTS twice, in lines 4 and 5",
        ),
    ],
)
def test_a_key_given_twice_is_refused_with_its_lines(text, words, tmp_path):
    base = tmp_path / "base.yaml"
    base.write_text(text)
    (tmp_path / "run.yaml").write_text("_BASE_: base.yaml\nSOLVER: {MAX_ITER: 3}\n")
    for file in (base, tmp_path / "run.yaml"):
        with pytest.raises(UserError) as refused:
            read(file)
        assert str(refused.value).startswith(f"config file {base} has ")
        assert str(refused.value).endswith(f"{words}: join them, or leave one out")


@pytest.mark.parametrize(
    "text",
    [
        "a: {x: 1}\nb: {x: 1}\n",
        "a: &a {x: 1}\nb: *a\nc: {<<: *a, x: 2}\n",
        "a: &a\n- *a\n",
        "a: [{x: 1}, {x: 2}]\n",
        "1: a\n'1': b\n",
        "",
    ],
)
def test_the_same_word_in_two_places_is_no_key_given_twice(text):
    refuse_repeated_keys(text, "a.yaml")


@pytest.mark.parametrize("folder", [CONFIGS, MODEL_ZOO], ids=["packaged", "zoo"])
def test_no_config_that_comes_with_the_package_has_a_key_twice(folder):
    for file in sorted(folder.rglob("*.yaml")):
        refuse_repeated_keys(file.read_text(), str(file))
