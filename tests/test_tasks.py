"""Which task a config is of, and what the teacher of pictures is."""

from pathlib import Path

import pytest

from densedist.common.engine.locate import with_teacher
from densedist.common.errors import UserError
from densedist.tasks import task_of
from helpers.tiny import defaults

CONFIGS = Path(__file__).parents[1] / "configs"


@pytest.mark.parametrize("side", ["det", "seg"])
def test_every_shipped_config_is_known(side):
    files = [file for file in (CONFIGS / side).rglob("*.yaml") if file.parent.name != "data" and file.stem != "base"]
    assert files
    assert {task_of(str(file)).name for file in files} == {side}


def test_config_from_before_there_was_a_key_for_it(tmp_path):
    (tmp_path / "seg.yaml").write_text("MODEL: {ENCODER: {NAME: resnet18}}\n")
    assert task_of(str(tmp_path / "seg.yaml")).name == "seg"
    assert task_of("COCO-Detection/retinanet_R_50_FPN_1x.yaml").name == "det"


def test_configs_that_are_of_no_task(tmp_path):
    with pytest.raises(UserError, match="--config-file: nowhere is neither a file, nor a packaged config, nor one of"):
        task_of("nowhere")
    (tmp_path / "a.yaml").write_text("TASK: pose\n")
    with pytest.raises(UserError, match=r"TASK is pose in .*a\.yaml: want det or seg"):
        task_of(str(tmp_path / "a.yaml"))


def test_teacher_of_a_picture_can_be_left_out():
    cfg = defaults()
    cfg.DISTILL.TEACHER.WEIGHTS = __file__
    found = with_teacher(cfg)
    assert (found.DISTILL.TEACHER.WEIGHTS, found.DISTILL.TEACHER.PRECISION) == (__file__, "float32")
    assert with_teacher(cfg, "none") is None
