"""Which side of the suite a config belongs to."""

from pathlib import Path

import pytest
from detectron2.config import get_cfg

from densedist.common.config.merge import add_common_keys
from densedist.common.errors import UserError
from densedist.common.engine.locate import task, with_teacher

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize("side", ["det", "seg"])
def test_every_shipped_config_is_known(side):
    files = [file for file in (CONFIGS / side).rglob("*.yaml") if file.parent.name != "data" and file.stem != "base"]
    assert files
    assert {task(str(file)) for file in files} == {side}


def test_missing_config():
    with pytest.raises(UserError, match="config file nowhere does not exist"):
        task("nowhere")


def test_teacher_of_a_picture_can_be_left_out():
    cfg = get_cfg()
    add_common_keys(cfg)
    cfg.DISTILL.TEACHER.WEIGHTS = __file__
    found = with_teacher(cfg)
    assert (found.DISTILL.TEACHER.WEIGHTS, found.DISTILL.TEACHER.PRECISION) == (__file__, "float32")
    assert with_teacher(cfg, "none") is None
