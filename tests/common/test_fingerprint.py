"""What a number depends on: what is a difference, what is none, and in which words it is said."""

import json
import os
from types import SimpleNamespace

import pytest

from densedist.common.config import load
from densedist.common.errors import UserError
from densedist.common.fingerprint import Fingerprints, differences, refuse_another
from densedist.det.config import GRAMMAR
from densedist.seg.config import GRAMMAR as SEG


@pytest.fixture
def fingerprint(tmp_path, monkeypatch):
    """That of a config with overrides, whose data are the files of a folder and whose teacher is a file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "images" / name).write_text(name)
    (tmp_path / "teacher.pth").write_text("weights")
    (tmp_path / "teacher.yaml").write_text("OUTPUT_DIR: there\n")

    def contents(cfg, side):
        return sorted((tmp_path / "images").iterdir()) if cfg.DATASETS[side] else []

    task = SimpleNamespace(name="det", contents=contents)
    on = ["DISTILL.TEACHER.WEIGHTS", "teacher.pth", "DISTILL.TEACHER.CONFIG_FILE", "teacher.yaml"]

    def of(*words):
        cfg = load(GRAMMAR, "", ["DATASETS.TRAIN", "('t',)", *on, *words])
        return Fingerprints(task, tmp_path / "files.json").of(cfg)

    return of


@pytest.mark.parametrize(
    "words",
    [
        ["OUTPUT_DIR", "elsewhere"],
        ["DATALOADER.NUM_WORKERS", "0"],
        ["SOLVER.CHECKPOINT_PERIOD", "7"],
        ["TEST.EVAL_PERIOD", "5"],
        ["DATASETS.COCO_FORMAT", "[['u','a.json','images']]"],  # a data set that is not used
        ["DISTILL.KD.TAU", "9"],  # of a loss that is off
        ["DISTILL.TEACHER.STREAM", "True"],
    ],
)
def test_what_changes_no_number(fingerprint, words):
    assert differences(fingerprint(), fingerprint(*words)) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["SOLVER.BASE_LR", "1e-7"], "SOLVER.BASE_LR, then 0.001, now 1e-07"),
        (["SEED", "3"], "SEED, then -1, now 3"),
        (["SOLVER.MAX_ITER", "9"], "SOLVER.MAX_ITER, then 40000, now 9"),
        (["DISTILL.DIST.TAU", "9"], "DISTILL.DIST.TAU, then 1.0, now 9.0"),
        (["DISTILL.TEACHER.CACHE", "kept"], "DISTILL.TEACHER.CACHE, then nothing, now a folder"),
        (["DATASETS.UNLABELED", "['u']"], "DATASETS.UNLABELED, then nothing, now u"),
        (["DATASETS.PSEUDO_LABELED", "['u']"], "DATASETS.PSEUDO_LABELED, then nothing, now u"),
        (["MODEL.WEIGHTS", "detectron2://x.pkl"], "MODEL.WEIGHTS, then nothing, now detectron2://x.pkl"),
        (
            ["DISTILL.TEACHER.MORE", "[{'WEIGHTS': 'm.pth'}]"],
            "DISTILL.TEACHER.MORE.1.WEIGHTS, then nothing, now m.pth",
        ),
    ],
)
def test_what_changes_numbers_is_named(fingerprint, words, said):
    assert said in differences(fingerprint(), fingerprint(*words))


def test_files_count_by_what_they_hold(fingerprint, tmp_path):
    before = fingerprint()
    for name in ("teacher.pth", "images/a.png"):
        os.utime(tmp_path / name, (1, 1))
    (tmp_path / "other.pth").write_text("weights")
    assert differences(before, fingerprint("DISTILL.TEACHER.WEIGHTS", "other.pth")) == []
    (tmp_path / "teacher.yaml").write_text("# the same\nOUTPUT_DIR: here\n")
    assert differences(before, fingerprint()) == []
    (tmp_path / "teacher.yaml").write_text("INPUT: {FORMAT: RGB}\n")
    (tmp_path / "teacher.pth").write_text("trained anew")
    (tmp_path / "images" / "a.png").write_text("b.png")
    assert differences(before, fingerprint()) == [
        "other content of DATASETS.TRAIN, t",
        "other content of DISTILL.TEACHER.CONFIG_FILE, teacher.yaml",
        "other content of DISTILL.TEACHER.WEIGHTS, teacher.pth",
    ]


def test_a_config_counts_by_what_it_says_from_any_current_folder(fingerprint, tmp_path, monkeypatch):
    config = tmp_path / "teacher.yaml"
    config.write_text("DATASETS: {ROOT: images}\n")
    of_config = ["DISTILL.TEACHER.CONFIG_FILE", str(config), "DISTILL.TEACHER.WEIGHTS", str(tmp_path / "teacher.pth")]
    before = fingerprint(*of_config)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert differences(before, fingerprint(*of_config)) == []
    (tmp_path / "images").rename(tmp_path / "moved")
    monkeypatch.setattr("densedist.common.fingerprint.Fingerprints._side", lambda *_: {"named": "t", "sha256": "0"})
    key = "DISTILL.TEACHER.CONFIG_FILE"
    assert fingerprint(*of_config)[key] == before[key]


def test_without_a_loss_the_teacher_changes_nothing(fingerprint, tmp_path):
    off = ["DISTILL.DIST.WEIGHT", "0"]
    before = fingerprint(*off)
    (tmp_path / "teacher.pth").write_text("trained anew")
    assert differences(before, fingerprint(*off, "DISTILL.DECAY", "linear")) == []


def test_a_loss_that_was_off_did_not_have_its_default_weight(fingerprint):
    then = fingerprint("DISTILL.DIST.WEIGHT", "0", "DISTILL.KD.WEIGHT", "1")
    found = differences(then, fingerprint("DISTILL.KD.WEIGHT", "1"), GRAMMAR.keys())
    assert found == ["DISTILL.DIST.WEIGHT, then nothing, now 1.0"]


def test_code_of_imports_and_what_it_imports_beside_it(fingerprint, tmp_path):
    (tmp_path / "mine.py").write_text("from theirs import x\n")
    (tmp_path / "theirs.py").write_text("x = 1\n")
    (tmp_path / "script.py").write_text("")
    before = fingerprint("IMPORTS", "['mine.py']")
    (tmp_path / "script.py").write_text("import mine\n")
    assert differences(before, fingerprint("IMPORTS", "['mine.py']")) == []
    (tmp_path / "theirs.py").write_text("x = 2\n")
    assert differences(before, fingerprint("IMPORTS", "['mine.py']")) == [
        f"other content of IMPORTS, {tmp_path / 'mine.py'}"
    ]


def test_a_file_is_read_again_when_it_has_changed(fingerprint, tmp_path):
    image, record = tmp_path / "images" / "a.png", tmp_path / "files.json"
    for file in (tmp_path / "images").iterdir():
        os.utime(file, (5, 5))
    before = fingerprint()
    task = SimpleNamespace(name="det", contents=lambda cfg, side: sorted((tmp_path / "images").iterdir()))
    kept = Fingerprints(task, record)
    kept.of(load(GRAMMAR, "", ["DATASETS.TRAIN", "('t',)"]))
    kept.keep()
    known = json.loads(record.read_text())
    assert known[str(image)][:2] == [5, 5_000_000_000]
    known[str(image)][-1] = "known"
    record.write_text(json.dumps(known))
    assert differences(before, fingerprint()) == ["other content of DATASETS.TRAIN, t"]  # what the record says
    os.utime(image, (6, 6))
    assert differences(before, fingerprint()) == []


def test_what_differs_is_said_in_one_line():
    then = {"a": "1", "b": "2", "c": {"named": "x", "sha256": "0"}, "d": "4", "e": "5"}
    refuse_another("here", then, dict(then), {})
    now = then | {"a": "9", "b": "9", "c": {"named": "x", "sha256": "1"}, "d": "9", "e": ""}
    with pytest.raises(UserError) as refused:
        refuse_another("here", then, now, {})
    assert str(refused.value) == (
        "here has other settings: a, then 1, now 9; b, then 2, now 9; other content of c, x; and 2 more: give the "
        "same, or another --output-dir"
    )
    with pytest.raises(UserError) as refused:
        refuse_another("here", None, then, {})
    assert str(refused.value) == (
        "here was written by an earlier version, which did not record its settings: name another --output-dir"
    )


# Keys that came after version 36d836e, by what they begin with.
LATER = ("DATASETS.PSEUDO_LABELED", "PSEUDO_LABELS.", "SOLVER.TRUE_LABELS_LAST", "DISTILL.GRADIENT_")
LATER += ("DISTILL.LOGITS_STRIDE", "DISTILL.RKD.LEVELS", "DISTILL.RKD.MEMORY", "INPUT.SCALE_JITTER")
OF_DET = ("INPUT.ALBUMENTATIONS", "INPUT.COLOR_JITTER")  # of segmentation alone before


@pytest.mark.parametrize(
    ("name", "grammar", "later", "count", "given"),
    [
        ("det", GRAMMAR, (*LATER, *OF_DET), 17, ("PSEUDO_LABELS.MOSAIC", "0.5")),
        ("seg", SEG, LATER, 14, ("DISTILL.LOGITS_STRIDE", "1")),
    ],
)
def test_a_key_of_a_later_version_had_its_default_then(tmp_path, name, grammar, later, count, given):
    """In a whole settings.json, with losses on; with another value it is a difference."""
    task = SimpleNamespace(name=name, grammar=grammar, contents=lambda cfg, side: [])
    on = ["DISTILL.TEACHER.WEIGHTS", "teacher.pth", "DISTILL.RKD.WEIGHT", "1", "DATASETS.TRAIN", "['t']"]

    def fingerprint(*words):
        return Fingerprints(task, tmp_path / "files.json").of(load(grammar, "", [*on, *words]))

    now, keys = fingerprint(), grammar.keys()
    then = {part: value for part, value in now.items() if not part.startswith(later)}
    assert len(now) - len(then) == count
    refuse_another("here", json.loads(json.dumps(then)), now, keys)
    assert differences(then, fingerprint(*given), keys) == [f"{given[0]}, then nothing, now {given[1]}"]
    labeled = fingerprint("DATASETS.PSEUDO_LABELED", "['u']")
    assert differences(then, labeled, keys) == ["DATASETS.PSEUDO_LABELED, then nothing, now u"]
