"""A search of methods and keys: what it may choose, that it finds what is good, stops what is not, and goes on."""

import json
import os
import pickle
import sys
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
import yaml
from matplotlib.image import imread
from sqlalchemy import Engine, event

from densedist.common.compare.methods import expand
from densedist.common.config import load
from densedist.common.errors import UserError
from densedist.common.fingerprint import Fingerprints
from densedist.common.task import metric_of_first
from densedist.common.tune.attempt import Attempt
from densedist.common.tune.data import Validation
from densedist.common.tune.recipe import Recipe
from densedist.common.tune.rows import rows
from densedist.common.tune.search import Search
from densedist.common.tune.space import Choice, Range, Space
from densedist.common.tune.trials import Trials
from densedist.det.config import GRAMMAR
from densedist.tasks import task_named

fork = get_context("fork")  # nothing here has threads or asks for a GPU
TEACHER = ["DISTILL.TEACHER.WEIGHTS", "teacher.pth"]
LENGTH = ["SOLVER.MAX_ITER", "100", "SOLVER.STEPS", "(60, 80)", "DATASETS.TRAIN", "('t',)", "DATASETS.TEST", "('v',)"]
PACE = {"none": 0.05, "kd": 0.1, "dist": 0.2}
CONFIG = "det/digits/retinanet_r10t.yaml"
METHODS = ("dist@TAU=1..8;DECAY=none", "linear", "kd@TAU=1", "2")


@event.listens_for(Engine, "connect")
def _do_not_wait_for_the_disk(connection, _):
    connection.execute("PRAGMA synchronous = OFF")


def load_config(file, words):
    """A config that names a teacher, as CONFIG might."""
    return load(GRAMMAR, "", [*LENGTH, *([] if file == "no teacher" else TEACHER), *words])


def build(cfg):
    """No models; functions that another process can import."""


def is_scored(cfg):
    return "bare" not in cfg.DATASETS.TEST


def images(cfg, side):
    """Of u the half is in t."""
    files = {"t": {"1.png", "2.png"}, "u": {"2.png", "3.png"}, "t_kept": {"1.png"}, "t_aside": {"2.png"}}
    return set().union(*(files.get(name, {f"{name}.png"}) for name in cfg.DATASETS[side]))


def set_aside(cfg, share):
    return ["DATASETS.TRAIN", "('t_kept',)", "DATASETS.TEST", "('t_aside',)"]


def metric(cfg):
    return "bbox/AP"


def contents(cfg, side):
    return list(map(str, cfg.DATASETS[side]))


def check_data(cfg, *sides):
    """All is well."""


TASK = SimpleNamespace(
    name="det",
    best="labels@SHARE=0.5",
    grammar=GRAMMAR,
    contents=contents,
    check_data=check_data,
    load_config=load_config,
    build=build,
    is_scored=is_scored,
    images=images,
    set_aside=set_aside,
    metric=metric,
)


def pace(task, cfgs):
    return {method: PACE[method.partition("+")[0]] for method in cfgs}


def score(cfg):
    """DIST is best at a temperature of 4 with DECAY linear, KD is worse whatever it has."""
    distill = cfg.DISTILL
    if distill.KD.WEIGHT:
        return 10.0 + distill.KD.TAU
    return 30.0 - abs(distill.DIST.TAU - 4) + (distill.DECAY == "linear") if distill.DIST.WEIGHT else 5.0


class Trainer:
    """Writes what a run would, an evaluation after another, going on where its metrics.json ends.

    Args:
        dies: (folder, evaluation) at which KeyboardInterrupt ends the process's run, once.
        fails: of (cfg), why the run cannot be.
    """

    def __init__(self, score=score, dies=None, fails=lambda cfg: ""):
        self.score, self.dies, self.fails = score, dies, fails
        self.trained = []

    def __call__(self, cfg, task, resume, watch):
        assert resume
        folder = Path(cfg.OUTPUT_DIR)
        folder.mkdir(parents=True, exist_ok=True)
        if why := self.fails(cfg):
            raise UserError(why)
        file, period, length = folder / "metrics.json", cfg.TEST.EVAL_PERIOD, cfg.SOLVER.MAX_ITER
        begun = file.read_text().count("AP") if file.is_file() else 0
        evaluations = [*range(period, length, period), length]
        for number, done in enumerate(evaluations[begun:], begun + 1):
            if self.dies == (folder.parent.name, number):
                self.dies = None
                raise KeyboardInterrupt
            self.trained.append((folder.parent.name, folder.name, done))
            value = self.score(cfg) * (0.5 + 0.5 * done / length)
            with file.open("a") as opened:
                opened.write(json.dumps({"iteration": done - 1, "train_seconds": 0.1 * done, "bbox/AP": value}) + "\n")
            if done < length:
                watch(done, value)
        (folder / "results.json").write_text(json.dumps({"bbox": {"AP": self.score(cfg)}}))
        (folder / "model_final.pth").touch()


def in_a_process(cfg, task, resume, watch):
    Trainer()(cfg, task, resume, watch)


def search(output, train=None, methods=METHODS, trials=4, task=TASK, **more):
    given = {"config": CONFIG, "budget": 20.0, "train": train or Trainer(), "pace": pace}
    return Search(task, methods=methods, output=output, trials=trials, **given | more)


def found(output):
    return json.loads((output / "trials.json").read_text())


def space(*words):
    return Space.of(words, load_config(CONFIG, []))


def test_ranges_and_values_of_keys():
    there = space("none", *METHODS, "dist@WEIGHT=0..1;SOLVER.IMS_PER_BATCH=8..32+unlabeled").methods
    assert there["none"] == {}
    assert there["dist"] == {"DISTILL.DIST.TAU": Range(1.0, 8.0), "DISTILL.DECAY": ("none", "linear")}
    assert there["kd"] == {"DISTILL.KD.TAU": ("1", "2")}
    # IMS_PER_BATCH is a whole number, WEIGHT is none although both ends are
    assert there["dist+unlabeled"] == {
        "DISTILL.DIST.WEIGHT": Range(0.0, 1.0),
        "SOLVER.IMS_PER_BATCH": Range(8.0, 32.0, whole=True),
    }


def test_what_labels_are_written_by_makes_methods():
    words = ["labels@SCORE_THRESHOLD=0", "0.5;WEIGHT=0.1..1;TEACHER.TEST.FLIP=True+dist@TAU=1", "2"]
    keys = {"PSEUDO_LABELS.WEIGHT": Range(0.1, 1.0), "DISTILL.DIST.TAU": ("1", "2")}
    names = [f"labels@SCORE_THRESHOLD={score};TEACHER.TEST.FLIP=True+dist" for score in ("0", "0.5")]
    assert space(*words).methods == dict.fromkeys(names, keys)


def test_corners_are_what_is_checked_before_training():
    assert space(*METHODS).corners("dist") == [
        Choice("dist", {"DISTILL.DIST.TAU": "1", "DISTILL.DECAY": "none"}),
        Choice("dist", {"DISTILL.DIST.TAU": "8", "DISTILL.DECAY": "none"}),
        Choice("dist", {"DISTILL.DIST.TAU": "1", "DISTILL.DECAY": "linear"}),
    ]


class Recorder:
    """What is asked of an Optuna trial, and the low end or the last value as the answer."""

    def __init__(self):
        self.asked = {}

    def suggest_int(self, name, low, high, log):
        self.asked[name] = (low, high, log)
        return low

    def suggest_float(self, name, low, high, log):
        self.asked[name] = (low, high, log)
        return low + 1e-7

    def suggest_categorical(self, name, values):
        self.asked[name] = tuple(values)
        return values[-1]


def test_what_is_asked_of_optuna():
    trial = Recorder()
    assert space("kd@TAU=1", "2", "dist@TAU=1..8;WEIGHT=0..1;BETA=2;SOLVER.IMS_PER_BATCH=8..32").suggest(trial) == (
        Choice("dist", dict(zip(KEYS, ("1", "1e-07", "2", "8"), strict=True)))
    )
    assert trial.asked == {
        "method": ("kd", "dist"),
        "dist:DIST.TAU": (1.0, 8.0, True),
        "dist:DIST.WEIGHT": (0.0, 1.0, False),  # uniform, for 0 has no logarithm
        "dist:SOLVER.IMS_PER_BATCH": (8, 32, True),
    }


KEYS = ("DISTILL.DIST.TAU", "DISTILL.DIST.WEIGHT", "DISTILL.DIST.BETA", "SOLVER.IMS_PER_BATCH")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["dist@TAU=8..1"], "--methods: dist: TAU=8..1: want LOW..HIGH with LOW below HIGH"),
        (["dist@TAU=1..8", "16"], "--methods: dist: TAU=1..8,16: want one range LOW..HIGH, or values, not both"),
        (["dist@TAU=1..2", "dist@TAU=4"], "--methods: dist is named twice: give each of its keys all values at once"),
        (["dist@TAU=1;TAU=2"], "--methods: dist has DISTILL.DIST.TAU twice: give it all values at once"),
        (["dist@TAU"], "--methods: dist@TAU: want KEY=VALUE after @, e.g. dist@TAU=1,2,4;WEIGHT=0.3,1"),
        (
            ["kd", "labels@SHARE=0.1..0.9"],
            "--methods: labels: SHARE=0.1..0.9: a batch has whole images: list values, e.g. SHARE=0.25,0.5",
        ),
        (
            ["labels@SCORE_THRESHOLD=0..1"],
            "--methods: labels: SCORE_THRESHOLD=0..1: each value needs labels of its own: list values, e.g. 0,0.5",
        ),
        ([], "--methods is empty: name methods, e.g. dist@TAU=1..8"),
    ],
)
def test_what_is_no_space(words, complaint):
    with pytest.raises(UserError) as refused:
        space(*words)
    assert str(refused.value) == complaint


def test_best_is_searched_as_what_it_is():
    cfg = load_config(CONFIG, [])
    found = Space.of(["none", "best@WEIGHT=0.1..1"], cfg, "labels@SCORE_THRESHOLD=0;SHARE=0.5").methods
    keys = {"PSEUDO_LABELS.SHARE": ("0.5",), "PSEUDO_LABELS.WEIGHT": Range(0.1, 1.0)}
    assert found == {"none": {}, "labels@SCORE_THRESHOLD=0": keys}


def labeling(written):
    """A task whose teacher writes nothing but the record, and tells of it."""

    def label(labeling):
        if not labeling.only_check:
            labeling.output.mkdir(parents=True)
            record = {"seconds": 7.0, "settings": labeling.settings, "classes": {"a": {"labels": 1}}}
            (labeling.output / "labels.json").write_text(json.dumps(record))
            written.append((labeling.output, labeling.score, list(labeling.images)))

    return SimpleNamespace(
        **vars(TASK),
        label=label,
        unlabeled_images=lambda cfg: {f"{name}.png": Path(f"{name}.png") for name in cfg.DATASETS.UNLABELED},
        with_labels=lambda cfg, folder: ["DATASETS.PSEUDO_LABELED", str([*cfg.DATASETS.PSEUDO_LABELED, str(folder)])],
    )


def of_labels(cfg):
    """Labels at a half of the batch and with a small weight are best, those of a low threshold better than others."""
    if not cfg.DATASETS.PSEUDO_LABELED:
        return 5.0
    node, (folder,) = cfg.PSEUDO_LABELS, cfg.DATASETS.PSEUDO_LABELED
    return 20.0 + (node.SHARE == 0.5) - abs(node.WEIGHT - 0.3) + folder.endswith("=0")


def test_teachers_are_choices_too(tmp_path):
    """Each is a method by itself: several together, or the student's own average."""
    for name in "ab":
        (tmp_path / name).mkdir()
        for file in ("config.yaml", "model_final.pth"):
            (tmp_path / name / file).write_text("{}")
    both = f"{tmp_path}/a|{tmp_path}/b"
    words = [f"kd@TEACHER=average,{both};TAU=1..4+unlabeled", "labels@TEACHER.TEST.FLIP=True"]
    cfg = GRAMMAR.config()
    space = Space.of(words, cfg)
    assert list(space.methods) == [
        "kd@TEACHER=average+unlabeled",
        f"kd@TEACHER={both}+unlabeled",
        "labels@TEACHER.TEST.FLIP=True",
    ]
    found = []
    for method in space.methods:
        chosen = space.first(method).words(["rest"], [], GRAMMAR.keys())
        found.append(dict(zip(chosen[::2], chosen[1::2], strict=True)))
    average, several, labels = found
    assert (average["DISTILL.TEACHER.WEIGHTS"], average["DISTILL.TEACHER.CACHE"]) == ("average", "")
    assert several["DISTILL.TEACHER.WEIGHTS"] == f"{tmp_path}/a/model_final.pth"
    assert f"{tmp_path}/b/model_final.pth" in several["DISTILL.TEACHER.MORE"]
    assert average["DISTILL.KD.TAU"] == several["DISTILL.KD.TAU"] == "1"
    assert not any("FLIP" in key or key == "DISTILL.TEACHER" for each in found for key in each)
    assert "DISTILL.TEACHER.WEIGHTS" not in labels


def test_labels_are_written_once_and_how_they_count_is_searched(tmp_path, monkeypatch):
    for score in ("0", "0.5"):
        monkeypatch.setitem(PACE, f"labels@SCORE_THRESHOLD={score}", 0.1)
    written, train = [], Trainer(of_labels)
    (tmp_path / "teacher.yaml").write_text("{}")
    more = {
        "methods": ["none", "labels@SHARE=0", "0.5;WEIGHT=0.1..1;SCORE_THRESHOLD=0", "0.5"],
        "overrides": ["DISTILL.TEACHER.CONFIG_FILE", str(tmp_path / "teacher.yaml"), "PSEUDO_LABELS.SHARE", "0.25"],
        "unlabeled": ["rest"],
        "task": labeling(written),
    }
    out = tmp_path / "out"
    best = search(out, train, trials=12, **more).run()
    assert search(out, train, trials=12, **more).run() == best
    folders = [out / "teacher_labels" / f"labels@SCORE_THRESHOLD={score}" for score in ("0", "0.5")]
    assert sorted(written) == [(folder, score, ["rest.png"]) for folder, score in zip(folders, (0.0, 0.5), strict=True)]
    assert best["method"].startswith("labels@SCORE_THRESHOLD=0")
    assert set(best["keys"]) == {"PSEUDO_LABELS.SHARE", "PSEUDO_LABELS.WEIGHT"}
    final = yaml.safe_load((out / "best.yaml").read_text())
    assert final["DATASETS"]["PSEUDO_LABELED"] == [str(out / "teacher_labels" / best["method"])]
    assert final["PSEUDO_LABELS"]["SHARE"] == float(best["keys"]["PSEUDO_LABELS.SHARE"])
    with pytest.raises(UserError, match=r"--set-aside: 1 of its images, first .*2\.png, are among --unlabeled, and"):
        search(tmp_path / "other", train, **more | {"unlabeled": ["2"]}).run()
    wrong = more | {"methods": ["labels@SHARE=0.5", "0.7"]}
    with pytest.raises(UserError, match=r"PSEUDO_LABELS.SHARE is 0.7, which gives no whole number of the 16 of SOLVER"):
        search(tmp_path / "other", train, **wrong).run()
    assert not (tmp_path / "other").exists()


def test_labels_have_variances_where_any_choice_asks_for_them(tmp_path):
    (tmp_path / "teacher.yaml").write_text("{}")
    words = ["DISTILL.TEACHER.CONFIG_FILE", str(tmp_path / "teacher.yaml")]
    for method, wanted in (
        (["labels@MAX_BOX_VARIANCE=0", "0.02"], True),
        (["labels@MAX_BOX_VARIANCE=0..0.1"], True),
        (["labels@WEIGHT=0.1..1"], False),
    ):
        given = search(tmp_path, None, methods=method, unlabeled=["rest"], overrides=words, task=labeling([]))
        recipe = Recipe(given.task, given.config, given.overrides, given.unlabeled)
        found = given._labelings(
            Space.of(method, GRAMMAR.config()), recipe, Fingerprints(given.task, tmp_path / "files.json")
        )
        assert found["labels"][1].box_variance == wanted


def test_compare_refuses_ranges():
    with pytest.raises(UserError, match=r"--methods: dist@TAU=1\.\.8: ranges are for densedist tune; name values"):
        expand(["dist@TAU=1..8+mimic"])
    assert expand(["dist@TEACHER.CACHE=../1..2/a"]) == ["dist@TEACHER.CACHE=../1..2/a"]


@pytest.mark.drawn
def test_it_finds_what_is_best(tmp_path, capsys):
    train = Trainer()
    best = search(tmp_path, train, trials=16).run()
    assert (best["method"], best["keys"]["DISTILL.DECAY"]) == ("dist", "linear")
    assert abs(float(best["keys"]["DISTILL.DIST.TAU"]) - 4) < 1
    there = found(tmp_path)
    assert there["best"] == best
    values = [row["value"] for row in there["trials"] if row["state"] == "complete"]
    assert values == sorted(values, reverse=True)
    assert values[0] == best["value"]
    assert there["importance"].keys() == {"DIST.TAU", "DECAY"}
    assert sum(there["importance"].values()) == pytest.approx(1)
    table = (tmp_path / "table.md").read_text()
    assert table.startswith("Chosen on the last 0.2 of DATASETS.TRAIN, set aside; runs of 20 s of training steps, ")
    assert "- best of each method: dist 3" in table
    assert "- importance within dist, of " in table
    assert table in capsys.readouterr().out
    height, width, _ = imread(tmp_path / "search.png").shape
    assert width > height > 300
    lengths = {row["method"]: row["iterations"] for row in there["trials"] if row["state"] == "complete"}
    assert lengths == {"dist": 100, "kd": 200}  # as long as each other in seconds
    assert not list(tmp_path.rglob("*.pth"))
    trained = len(train.trained)
    assert search(tmp_path, train, trials=16).run() == best  # nothing is repeated
    assert len(train.trained) == trained


def test_best_yaml_trains_on_all_data(tmp_path):
    """It is the student's config with the chosen keys and the length of the budget, and the config's own data."""
    student = tmp_path / "student.yaml"
    student.write_text("SOLVER: {BASE_LR: 0.5}\n")
    overrides = ["SOLVER.WEIGHT_DECAY", "0.125", "TRUST_IMPORTS", "False"]
    best = search(
        tmp_path / "out", methods=["kd@TAU=3"], trials=1, config=str(student), overrides=overrides, budget=50.0
    ).run()
    cfg = load(GRAMMAR, best["config"])
    assert (cfg.DISTILL.KD.TAU, cfg.DISTILL.KD.WEIGHT, cfg.DISTILL.DIST.WEIGHT) == (3.0, 1.0, 0.0)
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS) == (500, (300, 400))
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.WEIGHT_DECAY) == (0.5, 0.125)
    text = Path(best["config"]).read_text()
    assert text.startswith(f"_BASE_: {student}\n")
    assert "DATASETS" not in text
    assert "TRUST" not in text


def test_runs_are_compared_at_the_same_share_of_their_length(tmp_path):
    """With as many evaluations as the config has in its own length; four where it has none on the way."""
    train = Trainer()
    search(tmp_path / "a", train, ["none"], trials=1, overrides=["TEST.EVAL_PERIOD", "10"]).run()
    assert [done for *_, done in train.trained] == list(range(40, 401, 40))
    train = Trainer()
    search(tmp_path / "b", train, ["none"], trials=1).run()
    assert [done for *_, done in train.trained] == [100, 200, 300, 400]


def test_what_falls_behind_is_given_up(tmp_path):
    """In its first seed; the value is the mean over the seeds."""
    train = Trainer(lambda cfg: score(cfg) + cfg.SEED)
    search(tmp_path, train, ["dist@TAU=1..100"], trials=14, seeds=(1, 4)).run()
    there = found(tmp_path)["trials"]
    pruned = [row for row in there if row["state"] == "pruned"]
    assert pruned
    runs = {(trial, seed) for trial, seed, _ in train.trained}
    for row in there:
        number = str(row["number"])
        assert ((number, "seed4") in runs) == (row["state"] == "complete")
        if row["state"] == "complete":
            assert row["value"] == pytest.approx(sum(row["seeds"].values()) / 2)
            assert row["seeds"]["4"] == pytest.approx(row["seeds"]["1"] + 3)
            assert (row["iterations"], row["seconds"]) == (100, pytest.approx(20.0))
    assert all(0 < row["iterations"] < 100 or (len(row["seeds"]) == 0) for row in pruned)
    assert there[0]["value"] == max(row["value"] for row in there if row["state"] == "complete")


def test_a_choice_is_trained_once(tmp_path):
    train = Trainer()
    search(tmp_path, train, ["kd@TAU=1", "2"], trials=5).run()
    assert len({trial for trial, *_ in train.trained}) == 2
    there = found(tmp_path)["trials"]
    assert next(row["value"] for row in there if row["keys"]["DISTILL.KD.TAU"] == "2") == 12.0
    assert sum(row["same_as"] is not None for row in there) == 3
    assert "| complete, as trial " in (tmp_path / "table.md").read_text()


def test_neither_is_one_that_was_given_up(tmp_path):
    train = Trainer()
    search(tmp_path, train, ["dist@TAU=1..8"], trials=5).run()
    for number in range(2):
        going = Trials(tmp_path)
        with going.next(9) as next_one:
            attempt = Attempt(next_one, Choice("none"), Recipe(TASK, CONFIG, lengths={"none": 400}), [0], train)
            assert attempt.run(going.ended()) is None
            going.end(next_one, None)
        assert [done for trial, _, done in train.trained if trial in ("5", "6")] == [100]
        bad = rows(going.ended())[-1 - number :]
        assert {(row.state, row.value) for row in bad} == {("pruned", 3.125)}


def test_interrupted_trial_goes_on_in_its_folder(tmp_path):
    train = Trainer(dies=("2", 3))
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path, train, ["dist@TAU=1..8"]).run()
    search(tmp_path, train, ["dist@TAU=1..8"]).run()
    of_trial = [done for trial, _, done in train.trained if trial == "2"]
    assert of_trial == [25, 50, 75, 100]  # none of them twice
    there = found(tmp_path)["trials"]
    assert sorted(row["number"] for row in there) == [0, 1, 2, 4]  # 3 is what went on with 2
    assert {row["state"] for row in there} == {"complete"}


def test_killed_process_leaves_nothing_locked(tmp_path):
    killed = search(tmp_path, lambda *_: os._exit(9), ["dist@TAU=1..8"])
    process = fork.Process(target=killed.run)
    process.start()
    process.join()
    assert process.exitcode == 9
    search(tmp_path, methods=["dist@TAU=1..8"], trials=2).run()
    assert sorted(row["number"] for row in found(tmp_path)["trials"]) == [0, 2]


def test_two_shells_share_a_folder(tmp_path):
    """Each trial is made by one of them, and all are different."""
    shared = search(tmp_path, methods=["dist@TAU=1..8"], trials=6)
    processes = [fork.Process(target=shared.run) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    shared.run()
    assert not shared.train.trained  # by this process
    there = found(tmp_path)["trials"]
    assert sorted(row["number"] for row in there) == list(range(6))
    assert len({row["keys"]["DISTILL.DIST.TAU"] for row in there}) == 6
    for row in there:
        metrics = tmp_path / "trials" / str(row["number"]) / "seed0" / "metrics.json"
        assert metrics.read_text().count("AP") == 4 or row["state"] == "pruned"


def test_what_jobs_send_to_other_processes(tmp_path):
    shared = search(tmp_path, in_a_process, trials=1)
    recipe = Recipe(TASK, CONFIG, lengths={"dist": 8, "kd": 8})
    with_all = partial(shared._work, Trials(tmp_path), space(*METHODS), recipe)
    pickle.loads(pickle.dumps(with_all))(0)
    assert [trial.state.name for trial in Trials(tmp_path).counted()] == ["COMPLETE"]


def test_another_search_in_the_folder_is_refused(tmp_path):
    first = search(tmp_path, methods=["kd"], trials=1)
    first.run()
    for change, words in {
        "methods": (["none"], "other --methods, kd and not none"),
        "budget": (5.0, "other --budget, 20.0 and not 5.0"),
        "seeds": ((1, 2), "other --seeds, [0] and not [1, 2]"),
        "unlabeled": (("w",), "other --unlabeled, [] and not ['w']"),
        "validation": (Validation(["w"]), "--val or --set-aside, the last 0.2 of DATASETS.TRAIN, set aside and not w"),
    }.items():
        other = {change: words[0]} | ({"methods": words[0]} if change == "methods" else {})
        with pytest.raises(UserError) as refused:
            replace(first, **other).run()
        assert words[1] in str(refused.value)
        assert str(refused.value).startswith(f"{tmp_path} holds a search with other ")
        assert str(refused.value).endswith(": give the same, or another --output-dir")
    with pytest.raises(UserError) as refused:
        replace(first, overrides=["SOLVER.BASE_LR", "0.5"]).run()
    assert str(refused.value) == (
        f"the search in {tmp_path} has other settings: SOLVER.BASE_LR, then 0.001, now 0.5: give the same, or "
        "another --output-dir"
    )
    replace(first, trials=2).run()  # more trials are the same search
    there = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(UserError) as refused:
        first.run()
    assert str(refused.value) == (
        f"--trials is 1, but the search in {tmp_path} has 2 trials: give 2 or more, or another --output-dir"
    )
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == there


def test_search_of_an_earlier_version_is_refused(tmp_path):
    first = search(tmp_path, methods=["kd"], trials=1)
    first.run()
    study = Trials(tmp_path).study
    about = study.user_attrs["about"]
    study.set_user_attr("about", {name: value for name, value in about.items() if name != "settings"} | {"config": "0"})
    with pytest.raises(UserError, match="was written by an earlier version, which did not record its settings"):
        first.run()


def test_pace_of_a_refused_search_is_not_kept(tmp_path):
    """It is of other methods and another machine load; and there is no folder."""
    with pytest.raises(UserError, match=r"--budget is 0.01 seconds, but a step of dist takes 0.2"):
        search(tmp_path / "out", methods=["dist"], budget=0.01).run()
    assert not (tmp_path / "out").exists()
    search(tmp_path / "out", methods=["kd"], trials=1).run()
    assert found(tmp_path / "out")["trials"][0]["iterations"] == 200


def test_the_value_is_the_mean_over_the_data_sets(tmp_path):
    """As of several splits of which a part is set aside; also where runs are compared on the way."""
    reported = []

    def train(cfg, task, resume, watch):
        folder = Path(cfg.OUTPUT_DIR)
        folder.mkdir(parents=True, exist_ok=True)
        length = cfg.SOLVER.MAX_ITER
        lines = [{"iteration": n, "train_seconds": 1.0, "w/bbox/AP": 10.0, "x/bbox/AP": 30.0} for n in (9, length - 1)]
        (folder / "metrics.json").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        (folder / "results.json").write_text(json.dumps({n: {"bbox": {"AP": v}} for n, v in (("w", 10), ("x", 30))}))
        reported.append(folder)

    task = SimpleNamespace(**vars(TASK) | {"metric": lambda cfg: metric_of_first(cfg.DATASETS.TEST, "bbox/AP")})
    given = {"methods": ["kd"], "trials": 1, "validation": Validation(["w", "x"])}
    first = Search(task, CONFIG, budget=20.0, output=tmp_path, train=train, pace=pace, **given)
    assert first.run()["value"] == 20.0
    assert "the value is the mean over w, x" in (tmp_path / "table.md").read_text()
    assert len(reported) == 1


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"trials": 0}, "--trials is 0: want 1 or more"),
        ({"budget": 0.0}, "--budget is 0: want seconds of training steps, above 0"),
        ({"budget": 0.01}, "--budget is 0.01 seconds, but a step of dist takes 0.2"),
        (
            {"overrides": ["SEED", "3"]},
            "SEED would give all runs the same seed: remove it, and give --s",
        ),
        ({"seeds": ()}, "--seeds is empty: name one or more, e.g. 0,1"),
        ({"jobs": 0}, "--jobs is 0: want 1 or more"),
        ({"validation": Validation((), 1.5)}, "--set-aside is 1.5: want a share between 0 and 1, e.g. 0.2"),
        (
            {"validation": Validation(["digits_test"])},
            "--val: digits_test is test data, which is for the report at the end: name other data",
        ),
        ({"validation": Validation(["t"])}, "--val: t is in DATASETS.TRAIN too: name data that training does not see"),
        (
            {"validation": Validation(["u"])},
            f"--val: training sees 1 of its images, first {os.path.realpath('2.png')}: name other data",
        ),
        ({"validation": Validation(["bare"])}, "--val: methods cannot be scored: bare has no labels"),
        ({"config": "no teacher"}, "--methods: dist has no teacher or no loss: set DISTILL.TEACHER, or join a loss"),
        ({"methods": ["dist@TAU=0..2"]}, "DISTILL.DIST.TAU is 0.0: want a temperature above 0"),
        ({"methods": ["dist@DECAY=linear", "sudden"]}, "DISTILL.DECAY is sudden: want auto, none, linear or cosine"),
        ({"methods": ["dist@TAUU=1..2"]}, "unknown config key DISTILL.DIST.TAUU in the command line; did you mean"),
        ({"methods": ["dits"]}, "--methods: there is no dits; want none, dist, kd"),
        (
            {"methods": ["dist+unlabeled"]},
            "--methods: unlabeled needs --unlabeled: name a folder of images, or data sets",
        ),
    ],
)
def test_mistakes_are_found_before_anything_is_trained(tmp_path, change, complaint):
    train = Trainer()
    with pytest.raises(UserError) as refused:
        search(tmp_path / "out", train, **{"methods": ["dist"]} | change).run()
    assert str(refused.value).startswith(complaint)
    assert not train.trained
    assert not (tmp_path / "out").exists()


def test_latest_is_not_test_data():
    Validation(["latest_val", "protest"]).check(load_config(CONFIG, []))
    with pytest.raises(UserError, match="test-dev is test data"):
        Validation(["coco_2017_test-dev"]).check(load_config(CONFIG, []))


def test_a_mistake_does_not_claim_the_folder(tmp_path):
    with pytest.raises(UserError, match="training sees"):
        search(tmp_path, methods=["kd"], validation=Validation(["u"])).run()
    search(tmp_path, methods=["kd"], validation=Validation(["w"]), trials=1).run()


def test_choosing_on_what_is_reported_is_said(tmp_path, caplog):
    search(tmp_path, methods=["kd"], validation=Validation(["v"]), trials=1).run()
    said = "v is DATASETS.TEST, too: figures on it are no longer a fair report"
    assert said in caplog.text
    assert said in (tmp_path / "table.md").read_text()


def test_settings_that_cannot_be_trained_are_left_behind(tmp_path):
    """They are said, and are trials; where one after another fails the search ends."""
    train = Trainer(fails=lambda cfg: "the loss is NaN" if cfg.DISTILL.KD.WEIGHT else "")
    search(tmp_path, train, ["kd", "dist@TAU=1..8"], trials=8).run()
    there = found(tmp_path)["trials"]
    assert {row["method"]: row["why"] for row in there} == {"dist": "", "kd": "the loss is NaN"}
    assert "| failed: the loss is NaN |" in (tmp_path / "table.md").read_text()
    with pytest.raises(UserError, match="the disk is full"):
        search(tmp_path / "full", Trainer(fails=lambda _: "the disk is full"), ["kd@TAU=1..2"]).run()


def test_undefined_metric_is_no_value(tmp_path):
    with pytest.raises(UserError, match="bbox/AP is not defined at the end of the run"):
        search(tmp_path, Trainer(lambda _: float("nan")), ["kd"], trials=2).run()


def test_without_optuna_it_ends_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match="densedist tune: the package optuna is missing: install it by "):
        search(tmp_path).run()
    assert not (tmp_path / "study.db").exists()


@pytest.mark.parametrize("name", ["det", "seg"])
def test_a_task_goes_to_other_processes(name):
    """As --jobs of tune and compare send it."""
    assert type(pickle.loads(pickle.dumps(task_named(name)))) is type(task_named(name))


def test_study_is_a_file_that_optuna_opens(tmp_path):
    search(tmp_path, methods=["kd"], trials=1).run()
    study = optuna.load_study(study_name="tune", storage=f"sqlite:///{tmp_path / 'study.db'}")
    assert study.best_value == 11.0
    assert len(Trials(tmp_path).counted()) == 1
