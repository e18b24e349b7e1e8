"""Whom the user trusts: each key of trust, on each way by which a config is found, holds from him alone."""

import shutil
from importlib import import_module
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import yaml

from densedist import api
from densedist.common.config import load, saved, trust
from densedist.common.config.keys import value_of
from densedist.common.config.shared_keys import COMMON
from densedist.common.errors import UserError
from densedist.common.tune.recipe import Recipe
from densedist.det.config import DET
from densedist.seg.config import GRAMMAR, SEG
from helpers import scenes, tiny
from helpers.calling import complaint

FOUND = 4711  # the SEED by which a config that was found is known
SIDES = {"det": tiny, "seg": scenes}
NODE = "DISTILL.TEACHER"


def trusting(**more):
    """A config's part that gives itself all trust that there is."""
    part = more
    for name in trust.KEYS:
        *groups, last = name.split(".")
        node = part
        for group in groups:
            node = node.setdefault(group, {})
        node[last] = True
    return part


@pytest.fixture(scope="module", params=SIDES)
def side(request, tmp_path_factory):
    """A run of the user's own, the same from somebody else, who trusts everybody, and a config that is based on it."""
    folder, of = tmp_path_factory.mktemp(request.param), SIDES[request.param]
    own, run = folder / "own", folder / "run"
    of.save_teacher(own, file=of.STUDENT)
    (own / "weights.pth").rename(own / "model_final.pth")
    shutil.copytree(own, run)
    text = yaml.safe_load((run / "config.yaml").read_text())
    for name, value in trusting(SEED=FOUND).items():
        text[name] = {**text[name], **value} if isinstance(value, dict) else value
    (run / "config.yaml").write_text(yaml.safe_dump(text))
    (folder / "mine.yaml").write_text("_BASE_: run/config.yaml\n")
    cv2.imwrite(str(folder / "image.png"), np.zeros((40, 50, 3), np.uint8))
    return SimpleNamespace(task=request.param, of=of, folder=folder, own=own, run=run)


@pytest.fixture
def seen(monkeypatch):
    """The trust, by key, that each config has which was found on the way; the command ends with the first."""
    configs, loading = [], import_module("densedist.common.config.load")
    check = loading.check_values

    def record(cfg, keys):
        if cfg.SEED == FOUND:
            configs.append({name: value_of(cfg, name) for name in trust.KEYS})
            raise UserError("seen")
        check(cfg, keys)

    monkeypatch.setattr(loading, "check_values", record)
    return configs


def named(run):
    return [f"{NODE}.CONFIG_FILE", run / "config.yaml", f"{NODE}.WEIGHTS", run / "model_final.pth"]


def training(side, *words):
    out = side.folder / "out"
    return ["train", side.task, "--config-file", side.of.STUDENT, *side.of.SMALL, "OUTPUT_DIR", out, *words]


def comparing(side, *methods):
    words = ["compare", side.task, side.of.STUDENT, "--seeds", 0, "--output-dir", side.folder / "compared"]
    data = {"det": "digits_train", "seg": "train"}[side.task]
    return [*words, "--methods", ",".join(methods), "--unlabeled", data, *side.of.SMALL, *named(side.own)]


def more(side):
    entry = {"CONFIG_FILE": str(side.run / "config.yaml"), "WEIGHTS": str(side.run / "model_final.pth")}
    return training(side, *named(side.own), f"{NODE}.MORE", f"[{entry}]")


WAYS = {
    "eval": lambda side: ["eval", side.task, "--weights", side.run],
    "predict": lambda side: ["predict", "--weights", side.run, side.folder / "image.png"],
    "label": lambda side: ["label", side.task, "--weights", side.run, side.folder / "image.png"],
    "export": lambda side: ["export", "--weights", side.run],
    "visualize": lambda side: ["visualize", "--weights", side.run],
    "profile": lambda side: ["profile", "--weights", side.run],
    "a checkpoint": lambda side: ["eval", side.task, "--weights", side.run / "model_final.pth"],
    "beside": lambda side: ["visualize", "--weights", side.own, "--beside", f"a={side.run}", "--teacher", "none"],
    "visualize --teacher": lambda side: ["visualize", "--weights", side.own, "--teacher", side.run],
    "profile --teacher": lambda side: ["profile", "--weights", side.own, "--teacher", side.run],
    "_BASE_": lambda side: ["train", side.task, "--config-file", side.folder / "mine.yaml"],
    "CONFIG_FILE": lambda side: training(side, *named(side.run)),
    "WEIGHTS": lambda side: training(side, f"{NODE}.WEIGHTS", side.run),
    "MORE": more,
    "TEACHER": lambda side: comparing(side, f"dist@TEACHER={side.run}"),
    "labels of TEACHER": lambda side: comparing(side, f"labels@TEACHER={side.run}"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_config_that_is_found_trusts_nobody(side, seen, monkeypatch, capsys, way):
    monkeypatch.chdir(side.folder)
    assert complaint(capsys, *WAYS[way](side)).endswith("seen")
    assert seen == [dict.fromkeys(trust.KEYS, False)]


def test_a_config_that_python_finds_trusts_nobody(side, seen):
    with pytest.raises(UserError, match="seen"):
        api.load_student(str(side.run))
    assert seen == [dict.fromkeys(trust.KEYS, False)]


def test_the_command_line_trusts(side, seen, capsys):
    words = [word for name in trust.KEYS for word in (name, "True")]
    assert complaint(capsys, "export", "--weights", side.run, *words) == "seen"
    assert complaint(capsys, *training(side, *words, *named(side.run))).endswith("seen")  # its teacher, too
    assert seen == [dict.fromkeys(trust.KEYS, True)] * 2


def test_a_config_that_the_user_names_trusts(side, seen, capsys):
    """But not in what is imported: that is for the command line alone."""
    config = side.folder / "named.yaml"
    given = trusting(SEED=FOUND)
    del given[trust.IMPORTS]
    config.write_text(yaml.safe_dump({"_BASE_": str(side.of.STUDENT), **given}))
    assert complaint(capsys, "train", side.task, "--config-file", config) == "seen"
    assert seen == [{name: name != trust.IMPORTS for name in trust.KEYS}]


def test_what_does_not_hold_is_said(side, capsys, caplog):
    load(side_grammar(side), str(side.run / "config.yaml"), trusted=False)
    said = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert said == [
        f"{name} in {side.run / 'config.yaml'} is ignored: only the command line, or a config that is named there, "
        "may set it"
        for name in trust.KEYS
    ]


def side_grammar(side):
    return import_module(f"densedist.{side.task}.config").GRAMMAR


def test_no_file_that_is_written_has_a_key_of_trust():
    words = [word for name in trust.KEYS for word in (name, "True")]
    cfg = load(GRAMMAR, str(scenes.STUDENT), words)
    assert all(value_of(cfg, name) is True for name in trust.KEYS)
    assert "TRUST" not in saved(cfg)
    choice = SimpleNamespace(method="none", words=lambda *given: list(words))
    task = SimpleNamespace(grammar=GRAMMAR, load_config=lambda file, words: load(GRAMMAR, file, words))
    assert "TRUST" not in Recipe(task, str(scenes.STUDENT), lengths={"none": 10}).final(choice)


def test_every_key_that_says_trust_is_one():
    """And there is one table of them, for both tasks."""
    keys = {**COMMON, **DET, **SEG}
    assert {name for name, key in keys.items() if key.trust or "TRUST" in name} == set(trust.KEYS)
