"""Which task a config is of, and what the teacher of pictures is."""

from pathlib import Path

import pytest

from densedist.common.compare.methods import expand, has_labels, switches
from densedist.common.config import load
from densedist.common.distill.teacher_files import with_teacher
from densedist.common.errors import UserError
from densedist.det.config import GRAMMAR
from densedist.tasks import task_named, task_of
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
    found = with_teacher(cfg, GRAMMAR.keys())
    assert (found.DISTILL.TEACHER.WEIGHTS, found.DISTILL.TEACHER.PRECISION) == (__file__, "float32")
    assert with_teacher(cfg, GRAMMAR.keys(), "none") is None


@pytest.mark.parametrize("config", ["det/digits/faster_rcnn_r10_quarter.yaml", "seg/digits/pspnet_r10_quarter.yaml"])
def test_what_is_said_of_a_teachers_files_is_not_for_another(config, tmp_path):
    task = task_of(config)
    of_files = {"FORMAT", "MORE", "KIND", "PIXEL_MEAN", "PIXEL_STD", "STRIDE"}
    assert {name.split(".")[-1] for name, key in task.grammar.keys().items() if key.of_files} == of_files
    (tmp_path / "config.yaml").touch()
    (tmp_path / "model_final.pth").touch()
    more = "[{'WEIGHTS': 'b.pth'}]"
    words = [f"DISTILL.TEACHER.{k}" for k in ("FORMAT", "MORE", "WEIGHTS", "CONFIG_FILE")]
    cfg = task.load_config(
        config, [word for pair in zip(words, ("BGR", more, "a.pth", config), strict=True) for word in pair]
    )
    node = with_teacher(cfg, task.grammar.keys(), str(tmp_path)).DISTILL.TEACHER
    assert (node.WEIGHTS, node.FORMAT, node.MORE) == (str(tmp_path / "model_final.pth"), "", [])
    words = switches(f"dist@TEACHER={tmp_path}", [], [], task.grammar.keys())
    keys = dict(zip(words[::2], words[1::2], strict=True))
    assert (keys["DISTILL.TEACHER.FORMAT"], keys["DISTILL.TEACHER.MORE"]) == ("", "[]")
    assert task.load_config(config, words).DISTILL.TEACHER.FORMAT == ""


@pytest.mark.parametrize("name", ["det", "seg"])
def test_best_of_a_task_is_a_method_of_labels_whose_keys_exist(name):
    task = task_named(name)
    for method in expand(["best"], task.best):
        assert has_labels(method)
        load(task.grammar, "", switches(method, ["photos"], task_keys=task.grammar.keys()))
