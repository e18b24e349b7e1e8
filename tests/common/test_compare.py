"""Several methods and seeds on one student: which trainings run, which are not repeated, what the table says."""

import json

import pytest
from detectron2.config import get_cfg

from common.compare import OFF, run, summarize, switches, table
from common.config import add_common_keys, merge
from common.errors import UserError

TEACHER = ["DISTILL.TEACHER.WEIGHTS", "teacher.pth"]


def load_config(file, words):
    """A config that names a teacher, as c.yaml would."""
    cfg = get_cfg()
    add_common_keys(cfg)
    merge(cfg, "", [*(TEACHER if file == "c.yaml" else []), *words])
    return cfg


def recorder(values):
    """A training that only writes its result, and the list of what was trained."""
    trained = []

    def train(args):
        keys = dict(zip(args.opts[::2], args.opts[1::2], strict=True))
        method, seed = keys["OUTPUT_DIR"].split("/")[-2:]
        trained.append((method, seed))
        folder = values["root"] / method / seed
        folder.mkdir(parents=True)
        (folder / "results.json").write_text(json.dumps({"bbox": {"AP": values[method] + int(keys["SEED"])}}))

    return train, trained


def test_methods_switch_off_all_others():
    assert switches("none", []) == list(OFF)
    words = switches("dist+mimic", [])
    keys = dict(zip(words[::2], words[1::2], strict=True))  # the last of a key counts
    assert {key for key, value in keys.items() if value != "0.0"} == {"DISTILL.DIST.WEIGHT", "DISTILL.MIMIC.WEIGHT"}
    assert switches("dist+unlabeled", ["train[60:]"])[-2:] == ["DATASETS.UNLABELED", "['train[60:]']"]


def test_every_method_with_every_seed_once(tmp_path, capsys):
    train, trained = recorder({"root": tmp_path, "none": 10.0, "dist": 20.0})
    run(train, load_config, "c.yaml", ["none", "dist"], [0, 4], tmp_path)
    assert trained == [("none", "seed0"), ("dist", "seed0"), ("none", "seed4"), ("dist", "seed4")]
    summary = {"none": {"seed0": 10.0, "seed4": 14.0}, "dist": {"seed0": 20.0, "seed4": 24.0}}
    assert json.loads((tmp_path / "results.json").read_text()) == summary
    assert "| dist     | 22.0 ± 2.8 | 20.0    | 24.0    |" in capsys.readouterr().out
    run(train, load_config, "c.yaml", ["none", "dist"], [0, 4], tmp_path)
    assert len(trained) == 4  # finished ones are not repeated


def test_processes_share_the_work(tmp_path):
    train, trained = recorder({"root": tmp_path, "none": 1.0, "kd": 1.0, "dist": 1.0})
    for part in (0, 1):
        run(train, load_config, "c.yaml", ["none", "kd", "dist"], [0], tmp_path, only=(part, 2))
    assert trained == [("none", "seed0"), ("dist", "seed0"), ("kd", "seed0")]


def test_table_of_what_is_there_so_far(tmp_path):
    assert summarize(tmp_path, ["none"], [0]) == {"none": {}}
    rows = table({"none": {}, "kd": {"seed0": 3.0}}).splitlines()[2:]
    assert rows == ["| none     |        |         |", "| kd       | 3.0    | 3.0     |"]


def test_unknown_method_and_missing_data():
    with pytest.raises(UserError, match="--methods: there is no dits; want none, kd, dist"):
        switches("dits", [])
    with pytest.raises(UserError, match="unlabeled needs --unlabeled"):
        switches("dist+unlabeled", [])


@pytest.mark.parametrize(("file", "method"), [("no teacher", "dist"), ("c.yaml", "unlabeled")])
def test_method_that_would_distil_nothing_is_refused_before_any_training(tmp_path, file, method):
    """It would be an ordinary training under another name."""
    train, trained = recorder({"root": tmp_path, "none": 1.0})
    with pytest.raises(UserError, match=f"--methods: {method} has no teacher or no loss"):
        run(train, load_config, file, ["none", method], [0], tmp_path, unlabeled=["train"])
    assert not trained
