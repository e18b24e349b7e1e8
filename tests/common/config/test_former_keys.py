"""Keys of earlier versions: wherever one is given it is read under its present name, or ignored, and a line says so."""

import logging

import pytest
import yaml
from detectron2.config import get_cfg

from densedist.common.compare.methods import switches
from densedist.common.config import load, read_file, saved
from densedist.common.config.former_keys import FORMER, current_text
from densedist.common.errors import UserError
from densedist.common.fingerprint import differences
from densedist.common.tune.space import Space
from densedist.det.config import GRAMMAR as DET
from densedist.det.config import add_distill_config
from densedist.seg.config import GRAMMAR as SEG

FORM, KIND = "DISTILL.TEACHER.FORM", "DISTILL.TEACHER.KIND"


@pytest.fixture
def written(tmp_path):
    def write(text, name="run.yaml"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    return write


def overrides(words):
    """What words come to."""
    return dict(zip(words[::2], words[1::2], strict=True))


def test_in_a_config_file_with_a_line_that_says_the_new_name(written, caplog):
    file = written(
        "# Straße\nMODEL: {FORM: transformers}\nDISTILL:\n  TEACHER:\n    FORM: onnx\n    WEIGHTS: 'a: b'\n"
        "    MORE: [{FORM: torchscript, WEIGHTS: c}]\nTEST:\n  SAVE_OVERLAYS: true\n"
    )
    cfg = load(SEG, file)
    node = cfg.DISTILL.TEACHER
    assert (cfg.MODEL.KIND, node.KIND, node.WEIGHTS) == ("transformers", "onnx", "a: b")
    assert node.MORE == [{"KIND": "torchscript", "WEIGHTS": "c"}]
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert lines.count(f"{file}: {FORM} is called {KIND} now") == 1
    gone = f"{file}: TEST.SAVE_OVERLAYS does nothing any more: densedist predict draws predictions over images"
    assert lines.count(gone) == 1


@pytest.mark.parametrize(("base", "mine"), [("FORM", "KIND"), ("KIND", "FORM"), ("FORM", "FORM")])
def test_a_file_wins_over_its_base_by_either_name(base, mine, written):
    written(f"MODEL: {{{base}: onnx}}\n", "base.yaml")
    assert load(SEG, written(f"_BASE_: base.yaml\nMODEL: {{{mine}: torch_export}}\n")).MODEL.KIND == "torch_export"


def test_on_the_command_line(written):
    more = "[{'FORM': 'torchscript', 'WEIGHTS': 'c'}]"
    words = ["MODEL.FORM", "onnx", FORM, "onnx", "DISTILL.TEACHER.MORE", more, "TEST.SAVE_OVERLAYS", "True"]
    cfg = load(SEG, written(f"DISTILL: {{TEACHER: {{KIND: {'smp'}}}}}\n"), words)
    assert (cfg.MODEL.KIND, cfg.DISTILL.TEACHER.KIND) == ("onnx", "onnx")
    assert cfg.DISTILL.TEACHER.MORE == [{"KIND": "torchscript", "WEIGHTS": "c"}]


@pytest.mark.parametrize(("given", "meant"), [("0.0", False), ("20", True), ("1e-6", True)])
def test_a_number_of_gb_says_whether_maps_are_kept(given, meant, written):
    former = "DISTILL.TEACHER.CACHE_MAPS_GB"
    assert load(DET, "", [former, given]).DISTILL.TEACHER.CACHE_MAPS is meant
    cfg = load(DET, written(f"DISTILL: {{TEACHER: {{CACHE_MAPS_GB: {given}}}}}\n"))
    assert cfg.DISTILL.TEACHER.CACHE_MAPS is meant
    with pytest.raises(UserError, match=r"DISTILL.TEACHER.CACHE_MAPS is many"):
        load(DET, "", [former, "many"])


@pytest.mark.parametrize("grammar", [DET, SEG], ids=["det", "seg"])
def test_the_config_of_an_old_run(grammar, written):
    then = yaml.safe_load(saved(grammar.config()))
    then["TEST"]["SAVE_OVERLAYS"] = False
    if grammar is SEG:
        then["MODEL"]["FORM"], then["DISTILL"]["TEACHER"]["FORM"] = then["MODEL"].pop("KIND"), "auto"
        del then["DISTILL"]["TEACHER"]["KIND"]
    else:
        del then["DISTILL"]["TEACHER"]["CACHE_MAPS"]
        then["DISTILL"]["TEACHER"]["CACHE_MAPS_GB"] = 0.0
    old, new = (load(grammar, file, ["MODEL.DEVICE", "cpu"]) for file in (written(yaml.safe_dump(then)), ""))
    assert yaml.safe_load(saved(old)) == yaml.safe_load(saved(new))


def test_detectron2s_own_reading_of_an_old_runs_config(written):
    cfg = get_cfg()
    add_distill_config(cfg)
    cfg.merge_from_file(written("DISTILL: {TEACHER: {CACHE_MAPS_GB: 0.0, CACHE: kept}}\n"))
    assert (cfg.DISTILL.TEACHER.CACHE, cfg.DISTILL.TEACHER.CACHE_MAPS) == ("kept", False)


def test_in_the_methods_of_compare(tmp_path):
    words = overrides(switches("kd@TEACHER.FORM=onnx", [], [FORM, "torchscript", "TEST.SAVE_OVERLAYS", "True"]))
    assert words[KIND] == "onnx"
    assert not set(FORMER) & set(words)
    (tmp_path / "model_final.pth").touch()
    (tmp_path / "config.yaml").touch()
    words = overrides(switches(f"kd@TEACHER={tmp_path}", [], [FORM, "onnx"], SEG.keys()))
    assert words[KIND] == "auto"  # what is said of the config's teacher is not for another one


def test_in_the_methods_of_tune():
    space = Space.of(["kd@TEACHER.FORM=onnx,smp;TEACHER.CACHE_MAPS_GB=0,20"], DET.config())
    assert space.methods == {"kd": {KIND: ("onnx", "smp"), "DISTILL.TEACHER.CACHE_MAPS": ("False", "True")}}


def test_both_names_with_different_values_are_refused_in_one_line(written):
    file = written("DISTILL: {TEACHER: {FORM: onnx, KIND: smp}}\n")
    said = f"has {FORM} onnx, which is called {KIND} now, and {KIND} smp: keep {KIND} alone"
    with pytest.raises(UserError) as refused:
        load(SEG, file)
    assert str(refused.value) == f"{file} {said}"
    with pytest.raises(UserError) as refused:
        load(SEG, "", [FORM, "onnx", KIND, "smp"])
    assert str(refused.value) == f"the command line {said}"
    with pytest.raises(UserError) as refused:
        switches("kd@TEACHER.KIND=smp;TEACHER.FORM=onnx", [])
    assert str(refused.value).endswith(said)


def test_both_names_with_one_value_are_one(written):
    assert load(SEG, written("MODEL: {FORM: onnx, KIND: onnx}\n"), [FORM, "smp", KIND, "smp"]).MODEL.KIND == "onnx"


def test_what_was_made_before_is_of_the_same_settings():
    then = {"MODEL.FORM": "smp", "DISTILL.TEACHER.CACHE_MAPS_GB": "0.0", "TEST.SAVE_OVERLAYS": "False", "SEED": "1"}
    now = {"MODEL.KIND": "smp", "DISTILL.TEACHER.CACHE_MAPS": "False", "SEED": "1"}
    assert differences(then, now) == []
    assert differences(then, now | {"MODEL.KIND": "onnx"}) == ["MODEL.KIND, then smp, now onnx"]


@pytest.mark.parametrize(
    "text", ["FORM: 1\n", "A: {FORM: x}\n", "MODEL: FORM\n", "MODEL: {NAME: FORM}\n", "[FORM\n", ""]
)
def test_other_uses_of_the_word_are_left_alone(text):
    assert current_text(text, "a.yaml") == text


def test_a_file_can_be_read_as_it_was_written(written):
    file = written("MODEL: {FORM: onnx}\n")
    assert read_file(file, as_written=True) == {"MODEL": {"FORM": "onnx"}}
    assert read_file(file) == {"MODEL": {"KIND": "onnx"}}
