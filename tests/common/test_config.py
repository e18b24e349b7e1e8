"""What a config may say; what it may not is in test_user_errors."""

import pytest
import yaml
from detectron2.config import get_cfg

from densedist.common.config.merge import MODEL_ZOO, add_common_keys, merge


@pytest.fixture
def cfg():
    result = get_cfg()
    add_common_keys(result)
    return result


def test_overrides_win_over_the_file_and_the_file_over_its_base(cfg, tmp_path):
    (tmp_path / "base.yaml").write_text("SOLVER: {BASE_LR: 0.1, MAX_ITER: 7, MOMENTUM: 0.5}\n")
    (tmp_path / "run.yaml").write_text("_BASE_: base.yaml\nSOLVER: {BASE_LR: 0.2, MAX_ITER: 8}\n")
    merge(cfg, str(tmp_path / "run.yaml"), ["SOLVER.MAX_ITER", "9"])
    assert (cfg.SOLVER.MOMENTUM, cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER) == (0.5, 0.2, 9)


def test_a_whole_number_will_do_for_a_float(cfg, tmp_path):
    (tmp_path / "run.yaml").write_text("DISTILL: {DIST: {TAU: 3}}\n")
    merge(cfg, str(tmp_path / "run.yaml"), ["DISTILL.KD.WEIGHT", "2"])
    assert (cfg.DISTILL.DIST.TAU, cfg.DISTILL.KD.WEIGHT) == (3.0, 2.0)
    assert isinstance(cfg.DISTILL.KD.WEIGHT, float)


def test_a_saved_config_loads_again(cfg, tmp_path):
    (tmp_path / "config.yaml").write_text(cfg.dump())
    again = get_cfg()
    add_common_keys(again)
    merge(again, str(tmp_path / "config.yaml"))
    cfg.MODEL.DEVICE = again.MODEL.DEVICE
    assert yaml.safe_load(again.dump()) == yaml.safe_load(cfg.dump())


def test_model_zoo_files_may_compute_their_values(cfg):
    merge(cfg, str(MODEL_ZOO / "COCO-Detection" / "retinanet_R_50_FPN_1x.yaml"))
    assert len(cfg.MODEL.ANCHOR_GENERATOR.SIZES[0]) == 3
