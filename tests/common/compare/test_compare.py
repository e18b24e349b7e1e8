"""Several methods and seeds on one student: which runs there are, which are not repeated, what is said of them."""

import json
import math
import shlex
import subprocess
import sys
import time
import warnings
import weakref
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.image import imread

from densedist.common.compare.labels import labeling_of, write_labels
from densedist.common.compare.methods import expand, folder_name, setting, switches, without
from densedist.common.compare.outcome import Outcome, gain, outcome, spread
from densedist.common.compare.report import draw, markdown, verdicts
from densedist.common.compare.study import Study
from densedist.common.compare.teachers import TeacherScores, teacher_table, teachers
from densedist.common.compare.workers import Run, train_all
from densedist.common.config import load
from densedist.common.engine.preemption import REQUEUE
from densedist.common.errors import UserError
from densedist.common.fingerprint import Fingerprints
from densedist.common.report.history import Point, read_history
from densedist.common.report.panels import Gallery, Panel
from densedist.det.config import GRAMMAR
from helpers.calling import accepted
from helpers.processes import server  # noqa: F401  whose processes have imported everything
from helpers.reading import shown

TEACHER = ["DISTILL.TEACHER.WEIGHTS", "teacher.pth"]
LENGTH = ["SOLVER.MAX_ITER", "100", "SOLVER.STEPS", "(60, 80)", "DATASETS.TEST", "('t',)"]
# Seconds an iteration takes.
PACE = {"none": 0.1, "labels": 0.1, "kd": 0.15, "dist": 0.2, "dist+labels": 0.2}


def load_config(file, words, trusted=True):
    """A config that names a teacher, as c.yaml would."""
    return load(GRAMMAR, "", [*LENGTH, *(TEACHER if file == "c.yaml" else []), *words])


def build(cfg):
    """No models; a function that another process can import."""


def is_scored(cfg):
    return "bare" not in cfg.DATASETS.TEST


def images(cfg, side):
    """Each data set has one image, named like it; none is on the disk."""
    return set(cfg.DATASETS[side])


def contents(cfg, side):
    """Of each data set the file of its name, where there is one."""
    return [Path(name) if Path(name).is_file() else name for name in cfg.DATASETS[side]]


def check_data(cfg, *sides):
    """All is well."""


TASK = SimpleNamespace(
    name="det",
    best="labels@SHARE=0.5",
    grammar=GRAMMAR,
    load_config=load_config,
    build=build,
    is_scored=is_scored,
    images=images,
    contents=contents,
    check_data=check_data,
)


class Trainer:
    """Only writes what a run would: an evaluation at its half and one at its end, which gives `values`."""

    def __init__(self, values):
        self.values, self.trained = values, []

    def __call__(self, cfg, task, resume):
        assert resume
        folder = Path(cfg.OUTPUT_DIR)
        method, seed = folder.parts[-2:]
        self.trained.append((method, seed, cfg.SOLVER.MAX_ITER, tuple(cfg.SOLVER.STEPS)))
        folder.mkdir(parents=True, exist_ok=True)
        write_metrics(folder, cfg.SOLVER.MAX_ITER, PACE[method], self.values.get(method, 0.0) + cfg.SEED)


def write_metrics(folder, iterations, pace, value):
    half = iterations // 2
    lines = [
        {"iteration": half - 1, "train_seconds": pace * half, "bbox/AP": value / 2},
        {"iteration": iterations - 1, "train_seconds": pace * iterations},
        {"iteration": iterations, "bbox/AP": value},
    ]
    (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "results.json").write_text(json.dumps({"bbox": {"AP": value, "AP50": 99.0}}))


def study(train, output, methods=("none", "dist"), seeds=(0, 4), config="c.yaml", **more):
    return Study(TASK, config, methods, seeds, output, train=train, **more)


def outcomes(**values):
    """By method the values of seeds 0, 1, ….."""
    return {
        method: {
            seed: Outcome("bbox/AP", value, 100, 10.0, [Point(50, 5.0, value / 2), Point(100, 10.0, value)])
            for seed, value in enumerate(numbers)
        }
        for method, numbers in values.items()
    }


def test_methods_switch_off_all_others():
    assert set(switches("none", [])[1::2]) == {"0.0"}
    words = switches("dist+mimic", [])
    keys = dict(zip(words[::2], words[1::2], strict=True))  # the last of a key counts
    assert {key for key, value in keys.items() if value != "0.0"} == {"DISTILL.DIST.WEIGHT", "DISTILL.MIMIC.WEIGHT"}
    assert switches("dist+unlabeled", ["train[60:]"])[-2:] == ["DATASETS.UNLABELED", "['train[60:]']"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("none,dist", ["none", "dist"]),
        ("dist@TAU=1,2,kd", ["dist@TAU=1", "dist@TAU=2", "kd"]),
        (
            "none,dist@TAU=1,4;WEIGHT=0.1,1+unlabeled",
            [
                "none",
                "dist@TAU=1;WEIGHT=0.1+unlabeled",
                "dist@TAU=1;WEIGHT=1+unlabeled",
                "dist@TAU=4;WEIGHT=0.1+unlabeled",
                "dist@TAU=4;WEIGHT=1+unlabeled",
            ],
        ),
        ("dist@DECAY=none,linear", ["dist@DECAY=none", "dist@DECAY=linear"]),  # none is a method, but no value
        ("kd@TAU=2,2", ["kd@TAU=2"]),
        ("dist@TAU=1+mimic@WEIGHT=1,2", ["dist@TAU=1+mimic@WEIGHT=1", "dist@TAU=1+mimic@WEIGHT=2"]),
    ],
)
def test_values_of_keys_are_methods_of_their_own(text, wanted):
    assert expand(text.split(",")) == wanted


def test_keys_of_methods():
    words = switches("dist@TAU=4;WEIGHT=0.1;DECAY=linear;TEACHER.CACHE=a/b+inter@BETA=2+none@SOLVER.BASE_LR=0.1", [])
    keys = dict(zip(words[::2], words[1::2], strict=True))
    assert keys["DISTILL.DIST.TAU"] == "4"
    assert keys["DISTILL.DIST.WEIGHT"] == "0.1"
    assert keys["DISTILL.DECAY"] == "linear"
    assert keys["DISTILL.TEACHER.CACHE"] == "a/b"
    assert keys["DISTILL.DIST.BETA"] == "2"
    assert keys["SOLVER.BASE_LR"] == "0.1"
    assert switches("kd@TAUU=1", [])[-2:] == ["DISTILL.KD.TAUU", "1"]  # which the config refuses by name


@pytest.mark.parametrize("method", ["dist@TAU", "dist@=1", "dist@TAU=,2"])
def test_keys_without_values_are_refused(method):
    with pytest.raises(UserError, match=r"--methods: dist.*: want KEY=VALUE after @"):
        expand([method])


def test_keys_of_a_method_have_the_last_word():
    """Or two methods that differ by a key would be one, under two names."""
    shared = ["DISTILL.DIST.TAU", "6", "DISTILL.DIST.WEIGHT", "3", "DISTILL.DIST.GAMMA", "5"]
    for method, wanted in {"dist": ("6", "3", "5"), "dist@TAU=1": ("1", "3", "5"), "inter": ("6", "3", "0.0")}.items():
        words = switches(method, [], shared)
        keys = dict(zip(words[::2], words[1::2], strict=True))
        assert tuple(keys[f"DISTILL.DIST.{key}"] for key in ("TAU", "WEIGHT", "GAMMA")) == wanted
    words = switches("none", [], shared)
    assert dict(zip(words[::2], words[1::2], strict=True))["DISTILL.DIST.WEIGHT"] == "0.0"


def test_keys_of_labels_have_short_names():
    """Theirs are those of PSEUDO_LABELS; one of a loss at its side stays the loss's own."""
    words = switches("dist@WEIGHT=2+labels@SHARE=0.5;WEIGHT=0.3;TRUE_LABELS_LAST=0.2;SCORE_THRESHOLD=0", ["rest"])
    keys = dict(zip(words[::2], words[1::2], strict=True))
    assert (keys["PSEUDO_LABELS.SHARE"], keys["PSEUDO_LABELS.WEIGHT"]) == ("0.5", "0.3")
    assert (keys["SOLVER.TRUE_LABELS_LAST"], keys["DISTILL.DIST.WEIGHT"]) == ("0.2", "2")
    assert "DATASETS.UNLABELED" not in keys


def test_a_list_is_one_value():
    """As is what is in it, though the command line is split at commas before."""
    given = "none,labels@COLOR_JITTER=[],[0.4,0.4, 0.4,0.1];ALBUMENTATIONS=[{Blur: {p: 0.5}},{kd: 1}]+kd,dist@TAU=1,2"
    methods = expand(given.split(","))
    assert methods == [
        "none",
        "labels@COLOR_JITTER=[];ALBUMENTATIONS=[{Blur: {p: 0.5}},{kd: 1}]+kd",
        "labels@COLOR_JITTER=[0.4,0.4, 0.4,0.1];ALBUMENTATIONS=[{Blur: {p: 0.5}},{kd: 1}]+kd",
        "dist@TAU=1",
        "dist@TAU=2",
    ]
    words = switches(methods[2], ["rest"])
    assert words[words.index("PSEUDO_LABELS.COLOR_JITTER") + 1] == "[0.4,0.4, 0.4,0.1]"
    with pytest.raises(UserError, match=r"labels@COLOR_JITTER=\[0.4,kd: want a list as \[1,2\], with a bracket at its"):
        expand(["labels@COLOR_JITTER=[0.4", "kd"])


@pytest.mark.parametrize(
    ("given", "best", "wanted"),
    [
        ("none,best", "labels@SHARE=0.5", ["none", "labels@SHARE=0.5"]),
        ("labels,best", "labels", ["labels"]),
        (
            "best@SHARE=0.25,0.75;WEIGHT=1",
            "labels@SHARE=0.5;MIN_SCORE=0.7",
            ["labels@SHARE=0.25;MIN_SCORE=0.7;WEIGHT=1", "labels@SHARE=0.75;MIN_SCORE=0.7;WEIGHT=1"],
        ),
        (
            "best@WEIGHT=1+kd",
            "labels@COLOR_JITTER=[0.4,0.4]+dist@TAU=4",
            ["labels@COLOR_JITTER=[0.4,0.4];WEIGHT=1+dist@TAU=4+kd"],
        ),
        ("best,kd", "", ["best", "kd"]),
    ],
)
def test_best_is_the_method_of_the_task(given, best, wanted):
    """Under its own name; keys that are given are added, or hold against its own."""
    assert expand(given.split(","), best) == wanted


def test_configs_of_the_same_data_are_loaded_once(tmp_path):
    """The student's and one of each method, one for the check of data and of what shares images, one for each run."""
    loaded = []

    def counted(file, words, trusted=True):
        loaded.append(words)
        return load_config(file, words, trusted)

    task = SimpleNamespace(**vars(TASK) | {"load_config": counted})
    Study(task, "c.yaml", ["none", "dist"], [0, 4], tmp_path / "out", train=Trainer({})).run()
    assert len(loaded) == (1 + 2) + (1 + 1) + 4


def test_a_comparison_says_what_best_is(tmp_path, monkeypatch):
    monkeypatch.setitem(PACE, "labels@SHARE=0.5", 0.1)
    task = labeling([], labeled=3)
    words = ["DISTILL.TEACHER.CONFIG_FILE", f"{run_of(tmp_path / 'weak')}/config.yaml", "DATASETS.TRAIN", "('u',)"]
    more = {"unlabeled": ["rest"], "overrides": words, "train": Trainer({"labels@SHARE=0.5": 2.0})}
    found = Study(task, "c.yaml", ["none", "best"], [0], tmp_path / "out", **more).run()
    assert list(found["methods"]) == ["none", "labels@SHARE=0.5"]
    assert (tmp_path / "out" / "labels@SHARE=0.5" / "seed0").is_dir()
    table = (tmp_path / "out" / "table.md").read_text()
    assert "\n| best " in table
    assert "\n- best: " in table
    assert "\n- best stands for labels@SHARE=0.5, which was recommended before this comparison\n" in table
    assert table.count("labels@SHARE=0.5") == 1
    assert "\n- labels: 3 of 10 images have labels, and a student learns from no others\n" in table
    page = shown((tmp_path / "out" / "report.html").read_text()).partition("The table in Markdown")[0]
    assert page.count("labels@SHARE=0.5") == 1
    assert "best, the recommended method, reaches " in page


def run_of(folder):
    """What a teacher's training leaves."""
    folder.mkdir()
    for name in ("config.yaml", "model_final.pth"):
        (folder / name).write_text("{}")
    return str(folder)


def test_methods_with_teachers_of_their_own(tmp_path):
    weak, strong = (run_of(tmp_path / name) for name in ("weak", "strong"))
    methods = expand(f"none,dist@TEACHER={weak},{strong};TAU=1+labels@SCORE_THRESHOLD=0".split(","))
    assert methods[2] == f"dist@TEACHER={strong};TAU=1+labels@SCORE_THRESHOLD=0"
    words = switches(methods[2], ["rest"], ["DISTILL.TEACHER.WEIGHTS", "other.pth"])
    keys = dict(zip(words[::2], words[1::2], strict=True))
    assert keys["DISTILL.TEACHER.WEIGHTS"] == f"{strong}/model_final.pth"
    assert keys["DISTILL.TEACHER.CONFIG_FILE"] == f"{strong}/config.yaml"
    assert keys["DISTILL.DIST.TAU"] == "1"
    assert not any("SCORE_THRESHOLD" in key or key.endswith("DIST.TEACHER") for key in keys)
    with pytest.raises(UserError, match=f"has TEACHER {strong} and {weak}: want one"):
        switches(f"kd@TEACHER={weak}+dist@TEACHER={strong}", [])
    with pytest.raises(UserError, match="--methods: TEACHER: there is no file gone"):
        switches("kd@TEACHER=gone", [])


def test_each_teacher_has_a_cache_of_its_own(tmp_path):
    methods = expand(f"none,dist@TEACHER={run_of(tmp_path / 'weak')},{run_of(tmp_path / 'strong')}".split(","))
    seen = []

    def remember(cfg, task, resume):
        seen.append(cfg.DISTILL.TEACHER.CACHE)
        if len(seen) == 3:
            raise UserError("seen")

    with pytest.raises(UserError, match="seen"):
        study(remember, tmp_path / "out", methods, [0], overrides=["DISTILL.TEACHER.CACHE", "kept"]).run()
    names = [folder_name(str(tmp_path / name)) for name in ("weak", "strong")]
    assert seen == ["kept", *(f"kept/{name}" for name in names)]


def test_gain_against_the_teachers_own_score(tmp_path, monkeypatch):
    """The picture has the teachers from weak to strong, each evaluated once on the student's test data."""
    weak, strong = (run_of(tmp_path / name) for name in ("weak", "strong"))
    own, drawn = {f"{weak}/model_final.pth": 20.0, f"{strong}/model_final.pth": 40.0}, []
    task, evaluated = scoring(own)
    methods = ["none", f"kd@TEACHER={strong},{weak}", f"dist@TAU=2;TEACHER={weak}", f"dist@TAU=2;TEACHER={strong}"]
    values = dict(zip(map(folder_name, expand(methods)), (1.0, 2.0, 3.0, 4.0, 8.0), strict=True))
    train = Trainer(values)
    errorbar = Axes.errorbar

    def remember(self, x, y, **more):
        drawn.append((x, y, more["label"]))
        return errorbar(self, x, y, **more)

    monkeypatch.setattr(Axes, "errorbar", remember)
    monkeypatch.setattr(sys.modules[__name__], "PACE", dict.fromkeys(values, 0.1))
    for _ in range(2):
        found = Study(task, "c.yaml", methods, [0, 4], tmp_path / "out", train=train).run()
    assert [model for model, *_ in evaluated] == [f"{strong}/model_final.pth", f"{weak}/model_final.pth"]
    assert found["teachers"] == {strong: 40.0, weak: 20.0}
    table = (tmp_path / "out" / "table.md").read_text().splitlines()[-2:]
    for row, cells in zip(table, (f"{weak} 20.0 +2.0 +3.0", f"{strong} 40.0 +1.0 +7.0"), strict=True):
        assert [cell.split()[0] for cell in row.strip("|").split("|")] == cells.split()
    assert [(y, label) for _, y, label in drawn[:2]] == [([2.0, 1.0], "kd"), ([3.0, 7.0], "dist@TAU=2")]
    assert drawn[0][0] == [20.0, 40.0]
    assert imread(tmp_path / "out" / "teachers.png").ndim == 3


def scoring(values):
    """A task whose teachers have these scores by their weights, and what is evaluated."""
    evaluated = []

    def evaluate(cfg, model):
        evaluated.append((model, cfg.DATASETS.TEST, cfg.OUTPUT_DIR))
        return {"u": {}, "t": {"bbox": {"AP": values[model], "AP50": 99.0}}}

    own = {"evaluate": evaluate, "load_model": lambda cfg, weights, key: weights}
    return SimpleNamespace(**vars(TASK), **own), evaluated


def test_teachers_of_other_classes_have_no_score_on_the_students_data(tmp_path):
    cfg = load_config("c.yaml", ["DISTILL.TEACHER.CLASSES.car", "['van']"])
    scores = TeacherScores(TASK, cfg, ["a", "b"], tmp_path, Fingerprints(TASK, tmp_path / "files.json"))
    assert scores.evaluate() == {"a": None, "b": None}


def test_teachers_are_evaluated_in_a_folder_of_the_comparison(tmp_path):
    """Or the files of a teacher's own evaluation would be overwritten."""
    teacher = run_of(tmp_path / "t")
    task, evaluated = scoring({f"{teacher}/model_final.pth": 20.0})
    Study(task, "c.yaml", ["none"], [0], tmp_path / "out", train=Trainer({})).run()
    Study(task, "c.yaml", ["none", f"kd@TEACHER={teacher}"], [], tmp_path / "out", train=Trainer({})).run()
    assert evaluated == [(f"{teacher}/model_final.pth", ("t",), str(tmp_path / "out/teachers" / folder_name(teacher)))]


def test_score_of_a_teacher_that_was_trained_anew_is_refused(tmp_path):
    teacher = run_of(tmp_path / "t")
    task, evaluated = scoring({f"{teacher}/model_final.pth": 20.0})

    def compare(method):
        return Study(task, "c.yaml", [f"{method}@TEACHER={teacher}"], [], tmp_path / "out", train=Trainer({})).run()

    compare("kd")
    compare("dist")
    assert len(evaluated) == 1
    (tmp_path / "t" / "model_final.pth").write_text("other weights")
    with pytest.raises(UserError) as refused:
        compare("dist")
    assert str(refused.value) == (
        f"{tmp_path}/out/teachers.json: {teacher} has other settings: other content of weights, "
        f"{teacher}/model_final.pth: give the same, or another --output-dir"
    )


def labeling(written, labels=1, labeled=10):
    """A task whose teacher writes nothing but the record, and tells of it.

    Args:
        labels: how many the record says that there are.
        labeled: in how many of 10 images.
    """

    def label(labeling):
        if labeling.only_check:
            return
        labeling.output.mkdir(parents=True)
        record = {"seconds": 7.0, "teachers": [t.file for t in labeling.teachers], "settings": labeling.settings}
        record |= {"images": 10, "labeled_images": labeled, "highest_score": 0.4}
        record |= {"classes": {"a": {"labels": 0, "score": 0.5}, "b": {"labels": labels, "score": 0.5}}}
        (labeling.output / "labels.json").write_text(json.dumps(record))
        written.append(labeling)

    return SimpleNamespace(
        **vars(TASK),
        label=label,
        unlabeled_images=lambda cfg: {name: Path(name) for name in cfg.DATASETS.UNLABELED},
        with_labels=lambda cfg, folder: ["DATASETS.PSEUDO_LABELED", str([*cfg.DATASETS.PSEUDO_LABELED, str(folder)])],
    )


def test_labels_of_several_teachers_and_thresholds(tmp_path):
    weak = run_of(tmp_path / "weak")
    written, out = [], tmp_path / "out"
    task = labeling(written)
    cfg = load_config("c.yaml", ["DISTILL.TEACHER.CONFIG_FILE", f"{weak}/config.yaml"])
    found = Fingerprints(task, tmp_path / "files.json")
    for _ in range(2):
        for method in ("labels", "labels@SCORE_THRESHOLD=0", f"dist@TEACHER={weak}+labels"):
            write_labels(task, cfg, labeling_of(task, cfg, method, out, found))
    assert [entry.score for entry in written] == [0.5, 0.0, 0.5]
    assert len({entry.output.name for entry in written}) == 3
    for wrong in ("high", "2", "nan"):
        with pytest.raises(UserError, match=f"SCORE_THRESHOLD is {wrong}: want a number from 0 to 1"):
            labeling_of(task, cfg, f"labels@SCORE_THRESHOLD={wrong}", out, found)


def test_a_teacher_that_is_sure_of_nothing_is_refused_with_the_key_to_lower(tmp_path):
    weak, task = run_of(tmp_path / "weak"), labeling([], labels=0, labeled=0)
    cfg = load_config("c.yaml", ["DISTILL.TEACHER.CONFIG_FILE", f"{weak}/config.yaml"])
    found = Fingerprints(task, tmp_path / "files.json")
    for method in ("labels", "labels@CHOOSE_THRESHOLDS=f1"):
        for _ in range(2):  # once more with labels that were written before
            with pytest.raises(UserError) as refused:
                write_labels(task, cfg, labeling_of(task, cfg, method, tmp_path / "out", found))
            assert str(refused.value) == (
                "--methods: labels: Nothing to train on: no score reaches the threshold; the highest score is 0.4; "
                "give a lower threshold, such as labels@SCORE_THRESHOLD=0.2"
            )


@pytest.mark.parametrize(
    ("labeled", "said"),
    [
        (6, ""),
        (3, "labels: 3 of 10 images have labels, and a student learns from no others"),
        (
            1,
            "labels: Little to train on: 1 of 10 images has labels; the highest score is 0.4; give a lower ",
        ),
    ],
)
def test_labels_of_few_images_are_warned_of_before_training(tmp_path, caplog, labeled, said):
    weak, task = run_of(tmp_path / "weak"), labeling([], labeled=labeled)
    cfg = load_config("c.yaml", ["DISTILL.TEACHER.CONFIG_FILE", f"{weak}/config.yaml"])
    to_write = labeling_of(task, cfg, "labels", tmp_path / "out", Fingerprints(task, tmp_path / "files.json"))
    for _ in range(2):  # once more with labels that were written before
        caplog.clear()
        assert write_labels(task, cfg, to_write).remark.startswith(said)
        assert [record.message.startswith(said) for record in caplog.records] == [True] * bool(said)


NO_FILE, EMA = ["DISTILL.TEACHER.CONFIG_FILE", ""], ["SOLVER.EMA_DECAY", "0.9"]


def test_several_teachers_write_labels_together_and_look_as_they_are_told(tmp_path):
    """Those of DISTILL.TEACHER.MORE, or of TEACHER with marks between them."""
    folders = [run_of(tmp_path / name) for name in ("a", "b|+c")]
    method = f"labels@TEACHER={'|'.join(folders)};TEACHER.TEST.AUG.ENABLED=True"
    assert expand([method, f"labels@TEACHER={folders[1]}", "kd"]) == [method, f"labels@TEACHER={folders[1]}", "kd"]
    words = switches(method, ["rest"], task_keys=GRAMMAR.keys())
    keys = dict(zip(words[::2], words[1::2], strict=True))
    assert not any("AUG" in key or key == "DISTILL.TEACHER" for key in keys)
    written, task = [], labeling([])
    found = Fingerprints(task, tmp_path / "files.json")
    for method_, cfg in (
        (method, load_config("c.yaml", words)),
        ("labels", load_config("c.yaml", [word for key in keys if "TEACHER" in key for word in (key, keys[key])])),
        ("labels@TEACHER.TEST.FLIP=True", load_config("c.yaml", words)),
    ):
        written.append(labeling_of(task, cfg, method_, tmp_path / "out", found))
    for entry in written:
        assert [one.file for one in entry.teachers] == [f"{folder}/model_final.pth" for folder in folders]
    assert written[0].teachers[1].overrides[-2:] == ["TEST.AUG.ENABLED", "True"]
    assert written[1].teachers[1].overrides[-2:] != ["TEST.AUG.ENABLED", "True"]
    assert len({entry.output for entry in written}) == 3
    assert [written[n].settings.get("TEACHER.TEST.AUG.ENABLED") for n in (0, 1)] == ["True", None]


def test_the_students_average_is_a_teacher_that_needs_nothing_of_the_configs(tmp_path):
    a = run_of(tmp_path / "a")
    of_config = ["DISTILL.TEACHER.CACHE", "c", "DISTILL.TEACHER.CONFIG_FILE", "c"]
    for method, weights, more, cache in (
        ("kd@TEACHER=average+unlabeled", "average", [], ""),
        (f"kd@TEACHER={a}|average", f"{a}/model_final.pth", [{"CONFIG_FILE": "", "WEIGHTS": "average"}], ""),
        (f"kd@TEACHER={a}", f"{a}/model_final.pth", [], "c"),
    ):
        node = load_config("c.yaml", switches(method, ["rest"], of_config, GRAMMAR.keys())).DISTILL.TEACHER
        assert (node.WEIGHTS, node.MORE, node.CACHE) == (weights, more, cache)
        assert node.CONFIG_FILE == ("" if weights == "average" else f"{a}/config.yaml")


def test_teachers_together_and_averages_have_no_score_of_their_own(tmp_path):
    a, b = (run_of(tmp_path / name) for name in "ab")
    folders = teachers([f"kd@TEACHER={a}|{b}", "kd@TEACHER=average+unlabeled", "kd"])
    assert folders == [f"{a}|{b}", "average"]
    scores = TeacherScores(
        TASK, load_config("c.yaml", []), folders, tmp_path, Fingerprints(TASK, tmp_path / "f")
    ).evaluate()
    assert scores == {f"{a}|{b}": None, "average": None}
    told = {method: {0: Outcome("bbox/AP", 9.0, 100, 10.0, [])} for method in ("none", "kd@TEACHER=average+unlabeled")}
    assert "| average" in teacher_table(told, scores)


def test_labels_are_written_as_the_method_says(tmp_path):
    out, task = tmp_path / "out", labeling([])
    cfg = load_config("c.yaml", ["DISTILL.TEACHER.CONFIG_FILE", f"{run_of(tmp_path / 'weak')}/config.yaml"])
    found = Fingerprints(task, tmp_path / "files.json")

    def of(part):
        return labeling_of(task, cfg, part, out, found)

    band, chosen = of("labels@SCORE_THRESHOLD=0.7;IGNORE_THRESHOLD=0.3"), of("labels@CHOOSE_THRESHOLDS=precision:0.8")
    assert (band.score, band.ignore, of("labels").ignore) == (0.7, 0.3, None)
    assert (chosen.score, chosen.choose) == (None, "precision:0.8")
    frequent = of("labels@CHOOSE_THRESHOLDS=frequencies")
    usual = of("labels").settings.keys()
    assert [one.settings.keys() - usual for one in (band, chosen)] == [{"IGNORE_THRESHOLD"}, {"CHOOSE_THRESHOLDS"}]
    assert {"CHOOSE_THRESHOLDS", "DATASETS.TRAIN"} <= frequent.settings.keys() - usual
    assert len({one.output for one in (band, chosen, frequent, of("labels"))}) == 4
    assert not any("THRESHOLD" in word for word in switches("labels@IGNORE_THRESHOLD=0.3", ["u"]))
    for part, said in (
        ("CHOOSE_THRESHOLDS=best", "CHOOSE_THRESHOLDS is best: want f1, frequencies or precision:P"),
        ("CHOOSE_THRESHOLDS=f1;SCORE_THRESHOLD=0.5", "CHOOSE_THRESHOLDS replaces SCORE_THRESHOLD"),
        ("IGNORE_THRESHOLD=high", "IGNORE_THRESHOLD is high: want a number from 0 to 1"),
        ("IGNORE_THRESHOLD=0.6", "--ignore-threshold is 0.6, but predictions are labels from --score-threshold 0.5 on"),
    ):
        with pytest.raises(UserError, match=said):
            of(f"labels@{part}")


def test_a_variance_is_asked_of_labels_where_training_has_a_bound(tmp_path):
    """Bounds share their labels; others have a folder of their own."""
    task = labeling([])
    teacher = ["DISTILL.TEACHER.CONFIG_FILE", f"{run_of(tmp_path / 'weak')}/config.yaml"]
    found, asked = Fingerprints(task, tmp_path / "files.json"), []
    for method in expand(["labels", "labels@MAX_BOX_VARIANCE=0.02", "0.05;WEIGHT=0.5"]):
        cfg = load_config("c.yaml", [*teacher, *switches(method, ["rest"], task_keys=GRAMMAR.keys())])
        asked.append(labeling_of(task, cfg, method, tmp_path / "out", found))
    assert [one.box_variance for one in asked] == [False, True, True]
    assert [one.output.name for one in asked] == ["labels", *["labels@BOX_VARIANCE=True"] * 2]
    assert [one.settings.get("BOX_VARIANCE") for one in asked] == [None, "True", "True"]


def test_what_says_more_of_a_teacher_holds_for_its_labels(tmp_path):
    weak = run_of(tmp_path / "weak")
    keys = ["DISTILL.TEACHER.CONFIG_FILE", f"{weak}/config.yaml", "DISTILL.TEACHER.FORMAT", "RGB"]
    cfg, found = load_config("c.yaml", keys), Fingerprints(TASK, tmp_path / "files.json")
    task = labeling([])
    words = labeling_of(task, cfg, "labels", tmp_path, found).teachers[0].overrides
    assert words[-2:] == ["INPUT.FORMAT", "RGB"]
    for keys, said in (
        (["DISTILL.TEACHER.CONFIG_FILE", ""], "CONFIG_FILE is empty: a teacher that writes labels needs one"),
        (["DISTILL.TEACHER.MORE", "[{'WEIGHTS': 'x'}]"], "CONFIG_FILE is empty: a teacher that writes labels needs"),
        (["DISTILL.TEACHER.WEIGHTS", "average", *NO_FILE, *EMA], "WEIGHTS is average, and labels are written before"),
    ):
        cfg = load_config("c.yaml", ["DISTILL.TEACHER.CONFIG_FILE", f"{weak}/config.yaml", *keys])
        with pytest.raises(UserError, match=f"--methods: labels: DISTILL.TEACHER.{said}"):
            labeling_of(task, cfg, "labels", tmp_path, found)


def test_page_with_pictures_before_and_after(tmp_path):
    """Of the first seed whose weights are there; pictures that cannot be drawn leave the numbers as they are."""
    asked = []

    def load_model(cfg, weights, key):
        asked.append((weights, key))
        return "model"

    def draw_examples(cfg, trainee, file, beside, called):
        asked.append((trainee.model, file, {name: (w.file, w.config) for name, w in beside.items()}, called))
        return Gallery(["scene"], [[Panel(np.zeros((2, 2, 3), np.uint8), "dist", "5 wrong")]], [], "the 1 of 4 images")

    def gone(*_):
        raise UserError("a.png is gone")

    task = SimpleNamespace(**vars(TASK) | {"load_model": load_model, "draw_examples": draw_examples})
    again = Study(task, "c.yaml", ["none", "dist"], [0, 4], tmp_path, train=Trainer({"none": 10.0, "dist": 20.0}))
    again.run()
    assert not asked
    assert "Pictures" not in (tmp_path / "report.html").read_text()
    files = [tmp_path / method / "seed4" / "model_final.pth" for method in ("none", "dist")]
    for file in files:
        file.touch()
    again.run()
    none, dist = files
    assert asked == [
        (str(dist), "dist's weights"),
        ("model", tmp_path / "examples.png", {"none": (str(none), str(none.with_name("config.yaml")))}, "dist"),
    ]
    page = (tmp_path / "report.html").read_text()
    assert "The 1 of 4 images." in page
    assert "5 wrong" in page
    task.load_model = gone
    again.run()
    page = (tmp_path / "report.html").read_text()
    assert "Pictures" not in page
    assert "10.0 points above none, the student alone (95 % interval [+10.0, +10.0], 2 seeds)" in page


def test_a_comparison_that_was_begun_from_python_names_its_command(tmp_path, monkeypatch):
    """In which all options are those that the comparison has."""
    (tmp_path / "c.yaml").write_text("TASK: det\n")
    methods = ["none", "labels@SCORE_THRESHOLD=0", "0.5"]
    made = Study(
        TASK, str(tmp_path / "c.yaml"), methods, [0, 3], tmp_path / "out", ["SOLVER.MAX_ITER", "9"], ["pool"], True
    )
    words = shlex.split(made._command().replace("\\\n", ""))
    accepted(monkeypatch, *words[1:])
    assert words[3:] == [
        *("--config-file", made.config, "--methods", "none,labels@SCORE_THRESHOLD=0,0.5", "--seeds", "0,3"),
        *("--unlabeled", "pool", "--equal-time", "--output-dir", str(made.output), "SOLVER.MAX_ITER", "9"),
    ]


def test_time_spent_once_has_a_column(tmp_path):
    table = markdown(outcomes(none=[1.0, 2.0], dist=[3.0, 4.0]), "")
    assert "before" not in table
    there = outcomes(none=[1.0, 2.0], dist=[3.0, 4.0])
    there["dist"][1] = replace(there["dist"][1], once=61.0)
    table = markdown(there, "")
    assert "| before training   |" in table
    assert "| 61 s              |" in table


@pytest.mark.drawn
def test_every_method_with_every_seed_once(tmp_path, capsys):
    train = Trainer({"none": 10.0, "dist": 20.0})
    study(train, tmp_path).run()
    assert [run[:2] for run in train.trained] == [
        ("none", "seed0"),
        ("dist", "seed0"),
        ("none", "seed4"),
        ("dist", "seed4"),
    ]
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["metric"] == "AP"
    dist = results["methods"]["dist"]
    assert (dist["mean"], dist["standard_deviation"]) == (22.0, pytest.approx(math.sqrt(8)))
    assert dist["gain_over_none"]["mean"] == 10.0
    seed = dist["seeds"]["4"]
    assert (seed["value"], seed["iterations"], seed["seconds"]) == (24.0, 100, pytest.approx(20.0))
    assert seed["curve"] == [[50, 10.0, 12.0], [100, 20.0, 24.0]]
    table = (tmp_path / "table.md").read_text()
    assert "| dist     | 22.0 ± 2.8 | +10.0            |" in table
    assert table in capsys.readouterr().out
    height, width, _ = imread(tmp_path / "curves.png").shape
    assert width > height > 300
    study(train, tmp_path).run()
    assert len(train.trained) == 4  # finished ones are not repeated


def test_interrupted_run_goes_on(tmp_path):
    """Its results.json is there already, from the evaluation at its half."""
    train = Trainer({"none": 10.0})
    folder = tmp_path / "none" / "seed0"
    folder.mkdir(parents=True)
    write_metrics(folder, 100, 0.1, 7.0)
    lines = (folder / "metrics.json").read_text().splitlines()
    (folder / "metrics.json").write_text(lines[0] + "\n")
    with pytest.raises(
        UserError, match="none/seed0 was written by an earlier version, which did not record its settin"
    ):
        study(train, tmp_path, ["none"], [0]).run()
    (folder / "settings.json").write_text(json.dumps(settings(tmp_path)))
    study(train, tmp_path, ["none"], [0]).run()
    assert len(train.trained) == 1


def settings(tmp_path, *words):
    """Of a run of the method none with the seed 0."""
    cfg = load_config("c.yaml", [*switches("none", []), "SEED", "0", *words])
    return Fingerprints(TASK, tmp_path / "files.json").of(cfg) | {"iterations": "100"}


@pytest.mark.parametrize("ended", [True, False])
def test_runs_of_other_settings_are_refused(tmp_path, ended, monkeypatch):
    """Whatever has changed; and nothing on the disk does."""
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    for file in ("t", "u", "teacher.pth"):
        Path(file).write_text(file)
    trained = Trainer({"none": 10.0, "kd": 20.0, "kd+unlabeled": 20.0})
    given = {"methods": ["none", "kd", "kd+unlabeled"], "seeds": [0], "overrides": [], "unlabeled": ["u"]}

    def compare(**more):
        return study(trained, out, **given | more).run()

    monkeypatch.setattr(sys.modules[__name__], "PACE", dict.fromkeys(("none", "kd", "kd+unlabeled"), 0.1))
    compare()
    if not ended:
        for file in out.rglob("results.json"):
            file.unlink()

    def refused(**more):
        number = len(trained.trained)
        before = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
        with pytest.raises(UserError) as error:
            compare(**more)
        assert before == {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
        assert len(trained.trained) == number
        return str(error.value)

    said = f"{out}/none/seed0 has other settings: {{}}: give the same, or another --output-dir"
    wanted = said.format("SOLVER.BASE_LR, then 0.001, now 1e-07")
    assert refused(overrides=["SOLVER.BASE_LR", "1e-7"]) == wanted
    wanted = said.format("SOLVER.MAX_ITER, then 100, now 200; iterations, then 100, now 200")
    assert refused(overrides=["SOLVER.MAX_ITER", "200"]) == wanted
    assert refused(overrides=["DATASETS.TEST", "('u',)"]) == said.format("DATASETS.TEST, then t, now u")
    wanted = said.replace("none", "kd").format("DISTILL.KD.TAU, then 1.0, now 4.0")
    assert refused(overrides=["DISTILL.KD.TAU", "4"]) == wanted
    wanted = said.replace("none", "kd+unlabeled").format("DATASETS.UNLABELED, then u, now u, v")
    assert refused(unlabeled=["u", "v"]) == wanted
    Path("teacher.pth").write_text("other weights")
    wanted = said.replace("none", "kd").format("other content of DISTILL.TEACHER.WEIGHTS, teacher.pth")
    assert refused() == wanted
    if ended:
        compare(methods=["none"], seeds=[0, 1])  # which has no teacher
        assert len(trained.trained) == 4
    Path("t").write_text("other images")
    assert refused(methods=["none"]) == said.format("other content of DATASETS.TEST, t")


def test_what_is_refused_makes_no_folder(tmp_path):
    for change, complaint in (
        (
            {"overrides": ["SEED", "3"]},
            "SEED would give all runs the same seed: remove it, and give --seeds",
        ),
        ({"jobs": 0}, "--jobs is 0: want 1 or more"),
        ({"methods": ["dits"]}, "--methods: there is no dits; want"),
        ({"overrides": ["DATASETS.TEST", "('bare',)"]}, "DATASETS.TEST: methods cannot be scored"),
    ):
        with pytest.raises(UserError) as refused:
            study(Trainer({}), tmp_path / "out", **change).run()
        assert str(refused.value).startswith(complaint)
        assert not (tmp_path / "out").exists()


def test_data_are_looked_at_before_anything_is_written(tmp_path):
    def check_data(cfg, *sides):
        raise UserError("a damaged image")

    task = SimpleNamespace(**vars(TASK) | {"check_data": check_data})
    with pytest.raises(UserError, match="a damaged image"):
        Study(task, "c.yaml", ["none"], [0], tmp_path / "out", train=Trainer({})).run()
    assert not (tmp_path / "out").exists()


def test_folders_of_methods_are_all_different(tmp_path):
    names = ["x/a_b", "x_a/b", "x_a_b", "x%2Fa_b", "é", "dist@TAU=1;WEIGHT=0.1+unlabeled", "a" * 300, "a" * 301]
    folders = list(map(folder_name, names))
    assert len(set(folders)) == len(names)
    assert folders[5] == names[5]
    for folder in folders:
        (tmp_path / folder).mkdir()


def test_folder_of_a_method_is_a_teacher(tmp_path, monkeypatch):
    """Its name has the marks that methods have."""
    monkeypatch.chdir(tmp_path)
    names = ["dist+unlabeled/seed0", "dist@TAU=1;WEIGHT=0.1+unlabeled/seed0", "out/kd+mimic"]
    for name in names:
        Path(name).parent.mkdir(exist_ok=True)
        run_of(Path(name))
    text = f"none,kd@TEACHER={','.join(names)};TAU=4+mimic"
    methods = expand(text.split(","))
    assert methods == ["none", *(f"kd@TEACHER={name};TAU=4+mimic" for name in names)]
    for method, name in zip(methods[1:], names, strict=True):
        assert setting(method, "TEACHER") == name
        assert without(method, "TEACHER") == "kd@TAU=4+mimic"
        words = switches(method, [])
        keys = dict(zip(words[::2], words[1::2], strict=True))
        assert keys["DISTILL.TEACHER.WEIGHTS"] == f"{name}/model_final.pth"
        assert (keys["DISTILL.KD.TAU"], keys["DISTILL.MIMIC.WEIGHT"], keys["DISTILL.DIST.WEIGHT"]) == (
            "4",
            "1.0",
            "0.0",
        )


def test_equal_time_gives_cheap_methods_more_iterations(tmp_path):
    train, measured = Trainer({"none": 10.0, "kd": 15.0, "dist": 20.0}), []

    def pace(task, cfgs):
        """A machine that has become half as fast with each call."""
        measured.append(list(cfgs))
        return {method: PACE[method] * 2 ** len(measured) for method in cfgs}

    study(train, tmp_path, ["none", "dist"], [0], equal_time=True, pace=pace).run()
    study(train, tmp_path, ["none", "kd", "dist"], [0], equal_time=True, pace=pace).run()
    assert train.trained == [
        ("none", "seed0", 200, (120, 160)),  # the schedule is stretched with them
        ("dist", "seed0", 100, (60, 80)),
        ("kd", "seed0", 133, (80, 107)),
    ]
    assert "At equal time" in (tmp_path / "table.md").read_text()
    study(train, tmp_path, ["none", "kd", "dist"], [0], equal_time=True, pace=pace).run()
    assert measured == [["none", "dist"], ["none", "kd"]]  # what is known is not measured again


def test_a_config_is_read_no_more_than_needed_before_the_first_training(tmp_path):
    """Once without a method; once for each method, to check it and for what its data and files hold; once to check data
    that all share, and once by the first run."""
    read, read_before = [], []

    def load(file, overrides, trusted=True):
        read.append(file)
        return load_config(file, overrides, trusted)

    def train(cfg, task, resume):
        read_before.append(len(read))
        Trainer({})(cfg, task, resume)

    task = SimpleNamespace(**vars(TASK) | {"load_config": load})
    Study(task, "c.yaml", ["none", "kd", "dist"], [0, 1, 2], tmp_path, train=train).run()
    assert read_before[0] == 1 + 3 + 1 + 1


def test_gain_is_paired():
    """Against the textbook's numbers: differences 1, 2, 3 have mean 2, deviation 1, t(2) = 4.303."""
    found = gain({0: 11.0, 1: 22.0, 2: 33.0, 7: 99.0}, {0: 10.0, 1: 20.0, 2: 30.0})
    half = 4.302652729696142 / math.sqrt(3)
    assert (found.mean, found.seeds) == (2.0, 3)
    np.testing.assert_allclose(found.interval, (2 - half, 2 + half), rtol=1e-9)
    assert not found.is_significant
    assert gain({0: 11.0, 1: 12.1, 2: 13.05}, {0: 1.0, 1: 2.0, 2: 3.0}).is_significant
    assert gain({0: 1.0}, {0: 0.5}).interval is None
    assert gain({0: 1.0}, {1: 0.5}) is None
    assert spread({0: 1.0}) is None


def test_what_is_said_of_differences():
    lines = verdicts(outcomes(none=[10.0, 11.0, 12.0], kd=[11.0, 10.0, 14.0], dist=[20.0, 21.0, 22.2]))
    assert lines[0] == "kd: no significant difference: 0.7 better than none [-3.1, +4.5]"
    assert lines[1] == "dist: 10.1 better than none [+9.8, +10.4]"
    assert lines[2].startswith("highest mean: dist; 9.4 better than the next, kd [")
    assert "95 % intervals of the paired difference over seeds" in lines[3]
    assert verdicts(outcomes(none=[10.0], dist=[9.0])) == [
        "dist: 1.0 worse than none (one seed: this may be chance)",
    ]
    assert verdicts({"none": {}, "dist": {}}) == []


def test_a_table_has_no_empty_columns():
    for numbers, has_intervals in (([10.0], False), ([10.0, 11.0], True)):
        head = markdown(outcomes(none=numbers, dist=numbers), "Rule.").splitlines()[2]
        assert "| gain over none " in head
        assert ("| 95 % " in head) == has_intervals


def test_table_of_what_is_there_so_far():
    rows = markdown({"none": {}, "kd": outcomes(kd=[3.0])["kd"]}, "Rule.").splitlines()
    assert rows[0] == "Rule."
    assert [row.split("|")[1].strip() for row in rows[4:6]] == ["none", "kd"]
    assert rows[5].split("|")[2].strip() == "3.0"


def test_history_knows_when_each_number_was_had(tmp_path):
    assert read_history(tmp_path) == {}
    write_metrics(tmp_path, 100, 0.1, 8.0)
    assert read_history(tmp_path)["bbox/AP"] == [(50, 5.0, 4.0), (100, 10.0, 8.0)]


def test_labels_of_the_teacher_are_written_once_and_cost_a_column(tmp_path):
    written = []
    task = labeling(written)
    seen = []
    train = Trainer({"none": 1.0, "labels": 2.0, "dist+labels": 3.0})

    def remember(cfg, task, resume):
        labels = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.PSEUDO_LABELED]
        seen.append((Path(cfg.OUTPUT_DIR).parts[-2], labels, cfg.PSEUDO_LABELS.WEIGHT, cfg.DISTILL.DIST.WEIGHT))
        train(cfg, task, resume)

    methods = ["none", "labels", "dist+labels"]
    config = tmp_path / "teacher.yaml"
    config.write_text("{}")
    words = ["DATASETS.TRAIN", "('t100',)", "DISTILL.TEACHER.CONFIG_FILE", str(config), "MODEL.DEVICE", "cpu"]
    words += ["PSEUDO_LABELS.WEIGHT", "0.5"]
    for _ in range(2):
        Study(task, "c.yaml", methods, [0], tmp_path / "out", words, ["rest"], train=remember).run()
    own = ["MODEL.DEVICE", "cpu", "TRUST_IMPORTS", "False", "MODEL.TRUST_PICKLE", "False"]
    assert [(w.teachers[0].file, w.images, w.teachers[0].overrides) for w in written] == [
        ("teacher.pth", {"rest": Path("rest")}, own)
    ]
    labels = str(tmp_path / "out" / "teacher_labels" / "labels")
    both = ["t100", labels]
    assert seen == [("none", ["t100"], 1.0, 0.0), ("labels", both, 0.5, 0.0), ("dist+labels", both, 0.5, 1.0)]
    table = (tmp_path / "out" / "table.md").read_text().splitlines()
    assert ["7 s" in row for row in table if row.startswith(("| none", "| labels", "| dist"))] == [False, True, True]
    other = Study(task, "c.yaml", methods, [1], tmp_path / "out", [*words, *TEACHER[:1], "other.pth"], ["rest"])
    said = r"out/teacher_labels/labels has other settings: DISTILL.TEACHER.WEIGHTS, then teacher.pth, now other.pth: "
    with pytest.raises(UserError, match=said):
        other.run()


def test_labels_do_not_depend_on_how_their_teacher_teaches(tmp_path):
    """One method has a cache of it, another none, and both learn from the same labels; a comparison can go on."""
    written, trained = [], []
    (tmp_path / "teacher.yaml").write_text("{}")
    words = ["DISTILL.TEACHER.CONFIG_FILE", str(tmp_path / "teacher.yaml")]
    methods = ["labels", "dist@TEACHER.CACHE=kept;TEACHER.COMPILE=True+labels"]

    def train(cfg, task, resume):
        trained.append((cfg.DISTILL.TEACHER.CACHE, cfg.DATASETS.PSEUDO_LABELED))
        Path(cfg.OUTPUT_DIR).mkdir(parents=True, exist_ok=True)
        write_metrics(Path(cfg.OUTPUT_DIR), cfg.SOLVER.MAX_ITER, 0.1, 1.0)

    for seeds in ([0], [0], [0, 1]):
        Study(labeling(written), "c.yaml", methods, seeds, tmp_path / "out", words, ["rest"], train=train).run()
    folder = [str(tmp_path / "out" / "teacher_labels" / "labels")]
    assert [str(one.output) for one in written] == folder
    assert trained == [("", folder), ("kept", folder)] * 2
    other = "dist@TEACHER.COMPILE=True+labels"
    (tmp_path / "out" / folder_name(methods[1])).rename(tmp_path / "out" / folder_name(other))
    with pytest.raises(UserError, match=r"has other settings: DISTILL.TEACHER.CACHE, then a folder, now nothing"):
        Study(labeling(written), "c.yaml", [other], [0], tmp_path / "out", words, ["rest"], train=train).run()


def test_history_leaves_out_a_line_that_was_cut_off(tmp_path):
    """By the death of its process; what the run goes on with is before it."""
    write_metrics(tmp_path, 100, 0.1, 8.0)
    whole = (tmp_path / "metrics.json").read_text()
    (tmp_path / "metrics.json").write_text(whole[:-9])
    assert read_history(tmp_path)["bbox/AP"] == [(50, 5.0, 4.0)]


def test_unknown_method_and_missing_data():
    with pytest.raises(UserError, match="--methods: there is no dits; want none, dist, kd"):
        switches("dits", [])
    for part in ("unlabeled", "labels"):
        with pytest.raises(UserError, match=f"{part} needs --unlabeled"):
            switches(f"dist+{part}", [])


@pytest.mark.parametrize(
    ("file", "method"), [("no teacher", "dist"), ("c.yaml", "unlabeled"), ("no teacher", "labels")]
)
def test_method_that_would_distil_nothing_is_refused_before_any_training(tmp_path, file, method):
    """It would be an ordinary training run under another name."""
    train = Trainer({"none": 1.0})
    with pytest.raises(UserError, match=f"--methods: {method} has no teacher"):
        study(train, tmp_path, ["none", method], [0], file, unlabeled=["train"]).run()
    assert not train.trained


def test_student_that_cannot_be_built_is_found_before_any_training(tmp_path):
    def build(cfg):
        raise UserError("the teacher is gone")

    train = Trainer({"none": 1.0})
    broken = Study(SimpleNamespace(**vars(TASK) | {"build": build}), "c.yaml", ["none", "kd"], [0], tmp_path)
    with pytest.raises(UserError, match="the teacher is gone"):
        replace(broken, train=train).run()
    assert not train.trained


@pytest.mark.parametrize(
    ("test", "wanted"),
    [
        ("('bare',)", "DATASETS.TEST: methods cannot be scored: bare has no labels"),
        ("('t', 'bare')", "DATASETS.TEST: methods cannot be scored: not all of t, bare have labels"),
        ("()", "DATASETS.TEST is empty: name a data set to compare on"),
    ],
)
def test_test_data_without_labels_is_refused_before_any_training(tmp_path, test, wanted):
    train = Trainer({"none": 1.0})
    study = Study(TASK, "c.yaml", ["none"], [0], tmp_path, ["DATASETS.TEST", test], train=train)
    with pytest.raises(UserError) as refused:
        study.run()
    assert str(refused.value) == wanted
    assert not train.trained


def test_several_test_sets_have_a_column_each(tmp_path):
    def train(cfg, task, resume):
        folder = Path(cfg.OUTPUT_DIR)
        value = 10.0 * (folder.parts[-2] == "kd") + cfg.SEED
        names = {"t/bbox/AP": value, "u/v/bbox/AP": 2 * value}
        line = {"iteration": 100, "train_seconds": 1.0, **names}
        (folder / "metrics.json").write_text(json.dumps(line) + "\n")
        results = {name: {"bbox": {"AP": names[f"{name}/bbox/AP"], "AP50": 0.0}} for name in ("t", "u/v")}
        (folder / "results.json").write_text(json.dumps(results))

    found = Study(TASK, "c.yaml", ["none", "kd"], [0, 1], tmp_path, ["SOLVER.MAX_ITER", "101"], train=train).run()
    assert found["metric"] == "AP t"
    assert found["methods"]["kd"]["mean"] == 10.5
    assert found["methods"]["kd"]["others"]["u/v"]["mean"] == 21
    assert found["methods"]["kd"]["others"]["u/v"]["gain_over_none"]["mean"] == 20
    table = (tmp_path / "table.md").read_text()
    assert "| method   | AP t       | u/v        | gain over none   |" in table
    assert "| kd       | 10.5 ± 0.7 | 21.0 ± 1.4 | +10.0            |" in table
    assert "- kd: 10.0 better than none [+10.0, +10.0]\n- kd on u/v: 20.0 better than none [+20.0, +20.0]\n" in table


@pytest.mark.parametrize("nothing", [math.nan, None])
def test_what_is_undefined_is_a_dash(tmp_path, nothing):
    """In the table; null in results.json, and nothing in the picture."""

    def train(cfg, task, resume):
        folder = Path(cfg.OUTPUT_DIR)
        value = 1.0 if folder.parts[-2:] == ("kd", "seed0") else nothing
        line = {"iteration": 99, "train_seconds": 1.0, "bbox/AP": value}
        (folder / "metrics.json").write_text(json.dumps(line) + "\n")
        (folder / "results.json").write_text(json.dumps({"bbox": {"AP": value}}))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = Study(TASK, "c.yaml", ["none", "kd"], [0, 1], tmp_path, train=train).run()
        Study(TASK, "c.yaml", ["none"], [0], tmp_path, train=None).run()  # none has a number
    assert (found["methods"]["none"]["mean"], found["methods"]["kd"]["mean"]) == (None, 1.0)
    assert found["methods"]["kd"]["seeds"]["1"]["value"] is None
    assert "NaN" not in json.dumps(found)
    table = (tmp_path / "table.md").read_text().splitlines()
    assert [cell.strip() for cell in table[4].split("|")[1:3]] == ["none", "-"]
    assert (tmp_path / "curves.png").is_file()


def test_table_of_numbers_that_are_partly_undefined():
    found = {"kd": {seed: Outcome("bbox/AP", value, 100, 1.0, []) for seed, value in enumerate((1.0, None))}}
    row = markdown(found, "").splitlines()[4]
    assert [cell.strip() for cell in row.split("|")[2:3] + row.split("|")[-3:-1]] == ["1.0", "1.0", "-"]


def test_first_test_set_without_a_score_does_not_hide_the_others(tmp_path):
    line = {"iteration": 99, "train_seconds": 1.0, "u/bbox/AP": 3.0}
    (tmp_path / "metrics.json").write_text(json.dumps(line) + "\n")
    (tmp_path / "results.json").write_text(json.dumps({"t": {}, "u": {"bbox": {"AP": 3.0}}}))
    assert (outcome(tmp_path, 100).metric, outcome(tmp_path, 100).value) == ("u/bbox/AP", 3.0)
    (tmp_path / "results.json").write_text(json.dumps({"t": {}, "u": {}}))
    assert outcome(tmp_path, 100) is None


def test_two_processes_in_one_folder_are_refused(tmp_path):
    study = Study(TASK, "c.yaml", ["none"], [0], tmp_path, train=Trainer({"none": 1.0}))
    holding = "import sys, pathlib; from densedist.common.locks import try_lock; "
    holding += "lock = try_lock(pathlib.Path(sys.argv[1])); print(lock is not None, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", holding, tmp_path / "compare.lock"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout.readline() == "True\n"
        with pytest.raises(UserError) as refused:
            study.run()
        other.communicate("\n")
    assert str(refused.value) == (
        f"--output-dir: another process compares in {tmp_path}: wait for it, or name another folder; --jobs trains "
        "several students at a time"
    )
    assert study.run()["methods"]["none"]["mean"] == 1.0


def test_students_that_find_nothing_do_not_differ():
    found = outcomes(none=[0.0, 0.0], kd=[0.0, 0.0])
    assert verdicts(found)[0] == "kd: no significant difference: equal to none within 0.05 [+0.0, +0.0]"
    assert "| none     | 0.0 ± 0.0 |" in markdown(found, "")


def test_there_is_no_minus_zero():
    table = markdown(outcomes(none=[10.0, 10.02], kd=[10.0, 10.0]), "")
    assert "| +0.0" in table
    assert "-0.0" not in table


def test_curves_are_means_of_the_same_iterations(tmp_path, monkeypatch):
    """Where an evaluation of one seed on the way is undefined."""
    drawn, plot = [], Axes.plot

    def spy(axis, x, y, *args, **options):
        drawn.append((list(x), list(y)))
        return plot(axis, x, y, *args, **options)

    monkeypatch.setattr(Axes, "plot", spy)
    whole = [Point(60, 6.0, 2.0), Point(80, 8.0, 9.0), Point(100, 10.0, 4.0)]
    partly = [Point(60, 8.0, 4.0), Point(100, 12.0, 6.0)]
    found = {seed: Outcome("bbox/AP", c[-1].value, 100, 10.0, c) for seed, c in enumerate((whole, partly))}
    draw({"kd": found}, tmp_path / "curves.png")
    assert drawn[:2] == [([60, 100], [3.0, 5.0]), ([7.0, 11.0], [3.0, 5.0])]


def in_a_process(cfg, task, resume):
    """A run of test_several_at_a_time."""
    folder = Path(cfg.OUTPUT_DIR)
    if folder.name == "bad":
        raise UserError("what is wrong")
    folder.mkdir(parents=True)
    (folder / "done").touch()


def test_several_at_a_time(tmp_path):
    def run(name):
        return Run("c.yaml", str(tmp_path / name), [])

    train_all(in_a_process, TASK, [run(name) for name in "abc"], 2)
    assert all((tmp_path / name / "done").is_file() for name in "abc")
    with pytest.raises(UserError, match="what is wrong"):
        train_all(in_a_process, TASK, [run("bad"), run("d")], 2)
    with pytest.raises(UserError, match="--jobs is 0: want 1 or more"):
        train_all(in_a_process, TASK, [], 0)


def ends_after_a_signal(cfg, task, resume):
    """A run of test_nothing_is_begun_after_a_signal: the first one is told to end while the second is going."""
    folder = Path(cfg.OUTPUT_DIR)
    folder.mkdir(parents=True)
    if folder.name == "a":
        raise SystemExit(REQUEUE)
    while not (folder.parent / "a").is_dir():
        time.sleep(0.01)
    time.sleep(0.3)  # meanwhile the first one has ended


def test_nothing_is_begun_after_a_signal(tmp_path):
    runs = [Run("c.yaml", str(tmp_path / name), []) for name in "abcdefgh"]
    with pytest.raises(SystemExit) as stop:
        train_all(ends_after_a_signal, TASK, runs, 2)
    assert stop.value.code == REQUEUE
    assert {folder.name for folder in tmp_path.iterdir()} <= {"a", "b"}  # the second process may come too late for b


def test_nothing_is_left_of_a_run_when_the_next_begins():
    """Without a collection a model on a GPU would stay beside the next one's."""

    class Trainer:
        def __init__(self):
            self.hook = lambda: self

    alive, before = [], []

    def train(cfg, task, resume):
        before.append([reference() for reference in alive])
        alive.append(weakref.ref(Trainer()))

    runs = [Run("c.yaml", f"run{number}", []) for number in range(2)]
    train_all(train, SimpleNamespace(load_config=load_config), runs, 1)
    assert before == [[], [None]]
