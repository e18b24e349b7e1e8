"""What a config may say; what it may not is in test_user_errors."""

import pytest
import yaml

from densedist.common.config import MODEL_ZOO, load, saved
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
