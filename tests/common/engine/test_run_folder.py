"""A folder of a run belongs to one process and to one set of classes, and a refused command leaves it as it was."""

import os
import shutil
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import yaml

import densedist
from densedist.common.engine.train import _changed, train
from densedist.common.errors import UserError
from densedist.common.locks import LOCK, claimed, refuse_files
from densedist.det.task import TASK as DET
from densedist.seg.task import TASK as SEG
from helpers import scenes, tiny
from helpers.calling import complaint
from helpers.processes import server

SHORT = ["SOLVER.MAX_ITER", "1", "DATASETS.TEST", "[]"]
RUNS = {"det": (tiny.STUDENT, [*tiny.SMALL, *SHORT]), "seg": (scenes.STUDENT, [*scenes.SMALL, *SHORT])}
OTHER_MODEL = {"det": ["MODEL.FPN.OUT_CHANNELS", "16"], "seg": ["MODEL.AUX_HEAD.ENABLED", "True"]}


def contents(folder):
    """Every file below a folder, and when it was written."""
    return {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in Path(folder).rglob("*") if file.is_file()}


@pytest.fixture(scope="module", params=RUNS)
def run(request, tmp_path_factory):
    """(task, config, overrides, folder) of a run of one iteration."""
    folder = tmp_path_factory.mktemp(request.param) / "run"
    config, words = RUNS[request.param]
    densedist.train(str(config), [*words, "OUTPUT_DIR", str(folder)])
    return request.param, config, words, folder


def other_classes(config, folder):
    """A config of the same classes in another order."""
    known = yaml.safe_load((folder / "config.yaml").read_text())["DATASETS"]["CLASSES"]
    file = folder.parent / "other.yaml"
    file.write_text(yaml.safe_dump({"_BASE_": str(config), "DATASETS": {"CLASSES": [known[1], known[0], *known[2:]]}}))
    return file


def without_data(task, monkeypatch):
    """Detection's data name the classes, too."""
    if task == "det":
        monkeypatch.setattr("densedist.det.models.check_datasets", lambda cfg: cfg.DATASETS.CLASSES)


@pytest.mark.parametrize("command", ["train", "eval"])
def test_classes_in_another_order_are_refused_and_nothing_changes(run, command, capsys, monkeypatch):
    task, config, words, folder = run
    before, other = contents(folder.parent), other_classes(config, folder)
    without_data(task, monkeypatch)
    what = ["--resume"] if command == "train" else ["--weights", folder / "model_final.pth"]
    seen = complaint(capsys, command, task, "--config-file", other, *what, *words, "OUTPUT_DIR", folder)
    key = "--resume" if command == "train" else "--weights"
    assert f"{key}: class 0 is " in seen
    assert f" in {folder}/config.yaml, " in seen
    other.unlink()
    assert contents(folder.parent) == before


def test_weights_to_start_from_have_their_classes_beside_them(run, capsys, monkeypatch, tmp_path):
    task, config, words, folder = run
    other = other_classes(config, folder)
    without_data(task, monkeypatch)
    argv = ["--config-file", other, *words, "MODEL.WEIGHTS", folder / "model_final.pth", "OUTPUT_DIR", tmp_path / "new"]
    assert "MODEL.WEIGHTS: class 0 is " in complaint(capsys, "train", task, *argv)
    assert not (tmp_path / "new").exists()


def test_a_run_of_another_model_is_left_as_it_was(run, capsys):
    task, config, words, folder = run
    before = contents(folder)
    argv = [
        "--config-file",
        config,
        "--resume",
        *words,
        *OTHER_MODEL[task],
        "OUTPUT_DIR",
        folder,
        "SOLVER.MAX_ITER",
        "2",
    ]
    assert "--resume: " in complaint(capsys, "train", task, *argv)
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("command", "options", "said"),
    [
        ("train", [], "OUTPUT_DIR: "),
        ("train", ["--resume", "MODEL.WEIGHTS", "BROKEN"], "MODEL.WEIGHTS: "),
        ("train", ["--resume", "TRACKERS", "['mlflow']"], "TRACKERS: mlflow is not installed"),
        ("train", ["--resume", "TRACKERS", "['wandb']", "OTHER"], "--resume: "),
        ("train", ["--resume", "REHEARSAL", "True"], "it does not work"),
        ("eval", ["--weights", "BROKEN"], "--weights: "),
    ],
)
def test_what_is_refused_in_the_folder_of_a_run_changes_nothing_there(
    run, tmp_path, capsys, monkeypatch, command, options, said
):
    task, config, words, folder = run
    (tmp_path / "broken.pth").write_bytes(b"no checkpoint")

    def begin(dir, **_):
        (Path(dir) / "wandb").touch()

    def rehearse(*_):
        raise UserError("it does not work")

    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=begin))
    monkeypatch.setattr("densedist.common.engine.train.rehearse", rehearse)
    longer = ["SOLVER.MAX_ITER", "2"] if "--resume" in options else []  # else nothing would be left to train
    given = [*longer, *(str(tmp_path / "broken.pth") if word == "BROKEN" else word for word in options)]
    if "OTHER" in given:
        given[-1:] = OTHER_MODEL[task]
    before = contents(folder)
    argv = ["--config-file", config, *words, "OUTPUT_DIR", folder, *given]
    assert said in complaint(capsys, command, task, *argv)
    assert contents(folder) == before


def test_a_run_that_goes_on_with_other_settings_says_so(run, tmp_path):
    _, config, words, folder = run
    copied = tmp_path / "run"
    shutil.copytree(folder, copied)
    densedist.train(str(config), [*words, "OUTPUT_DIR", str(copied), "TEST.EVAL_PERIOD", "7"], resume=True)
    assert "other settings" not in (copied / "log.txt").read_text()
    (copied / "model_final.pth").rename(copied / "model_0000000.pth")
    (copied / "last_checkpoint").write_text("model_0000000.pth")
    longer = ["SOLVER.MAX_ITER", "2", "SOLVER.BASE_LR", "0.5", "OUTPUT_DIR", str(copied)]
    densedist.train(str(config), [*words, *longer], resume=True)
    said = (copied / "log.txt").read_text()
    assert "--resume continues with changed settings: SOLVER.BASE_LR, then " in said
    assert ", now 0.5; SOLVER.MAX_ITER, then 1, now 2\n" in said
    assert "  changed  SOLVER.MAX_ITER, then 1, now 2" in said


def test_a_path_that_a_former_run_kept_relative_is_no_other_setting(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    for name in ("w.pth", "run/w.pth", "run/model_final.pth"):
        (tmp_path / name).touch()
    (tmp_path / "run/config.yaml").write_text("MODEL: {WEIGHTS: w.pth}\n")
    monkeypatch.setattr("densedist.common.engine.train.saved", lambda _: f"MODEL: {{WEIGHTS: {tmp_path}/w.pth}}\n")
    assert _changed(SimpleNamespace(OUTPUT_DIR=str(tmp_path / "run"))) == []
    monkeypatch.setattr("densedist.common.engine.train.saved", lambda _: f"MODEL: {{WEIGHTS: {tmp_path}/run/w.pth}}\n")
    assert len(_changed(SimpleNamespace(OUTPUT_DIR=str(tmp_path / "run")))) == 1


def test_an_evaluation_leaves_the_config_of_a_run(run, tmp_path):
    _, config, words, folder = run
    before = (folder / "config.yaml").read_bytes()
    test = ["DATASETS.TEST", "['test']"] if config == scenes.STUDENT else ["DATASETS.TEST", "('digits_test',)"]
    words = [*words, *test, "OUTPUT_DIR", str(folder), "SEED", "7"]
    densedist.evaluate(str(folder / "model_final.pth"), words, config=str(config))
    assert (folder / "results.json").is_file()
    assert (folder / "config.yaml").read_bytes() == before


def hold(folder, pipe):
    with claimed(folder, "OUTPUT_DIR"):
        if os.fork() == 0:  # as a worker, which may live a little longer
            time.sleep(20)
            os._exit(0)
        pipe.send("held")
        signal.pause()


@pytest.fixture
def held(tmp_path):
    """A folder that another process holds, and that process, which has a child of its own."""
    ours, theirs = server.Pipe(duplex=False)
    process = server.Process(target=hold, args=(tmp_path / "held", theirs))
    process.start()
    assert ours.recv() == "held"
    yield tmp_path / "held", process
    process.kill()
    process.join()


@pytest.mark.parametrize("task", [DET, SEG], ids=["det", "seg"])
@pytest.mark.parametrize("resume", [True, False])
def test_a_second_process_is_refused_until_the_first_is_gone(held, task, resume):
    folder, process = held
    config, words = RUNS[task.name]
    cfg = task.load_config(str(config), [*words, "OUTPUT_DIR", str(folder)])
    with pytest.raises(UserError) as refused:
        train(cfg, task, resume)
    assert str(refused.value) == (
        f"OUTPUT_DIR: another process writes to {folder}: wait until it has ended, or name another folder"
    )
    assert [file.name for file in folder.iterdir()] == [LOCK]
    process.kill()
    process.join()
    with claimed(folder, "OUTPUT_DIR"):
        pass


def test_where_nothing_was_written_nothing_stays(tmp_path):
    with claimed(tmp_path / "a" / "b", "OUTPUT_DIR"):
        assert (tmp_path / "a" / "b").is_dir()
    assert list(tmp_path.iterdir()) == []
    with claimed(tmp_path / "a", "OUTPUT_DIR"):
        (tmp_path / "a" / "file").touch()
    assert [file.name for file in (tmp_path / "a").iterdir()] == ["file"]


@pytest.mark.parametrize("command", ["predict", "label", "export", "import", "prepare", "visualize"])
def test_a_folder_that_another_process_writes_to_is_refused(run, tmp_path, capsys, command):
    task, _, _, folder = run
    weights, output = ["--weights", folder], tmp_path / "out"
    argv = {
        "predict": [*weights, tmp_path / "image.png"],
        "label": [task, *weights, tmp_path / "image.png"],
        "export": [*weights, "--format", "weights"],
        "import": [task, folder / "model_final.pth"],
        "prepare": ["seg", tmp_path],
        "visualize": weights,
    }[command]
    cv2.imwrite(str(tmp_path / "image.png"), np.zeros((64, 64, 3), np.uint8))
    with claimed(output, "--output-dir"):
        before = contents(output)
        seen = complaint(capsys, command, *argv, "--output-dir", output)
        assert seen == (
            f"--output-dir: another process writes to {output}: wait until it has ended, or name another folder"
        )
        assert contents(output) == before


def test_files_but_the_lock_of_a_killed_process_are_in_the_way(tmp_path):
    (tmp_path / LOCK).touch()
    refuse_files(tmp_path, "--output-dir")
    refuse_files(tmp_path / "none", "--output-dir")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--output-dir: .* has files: name an empty or new folder"):
        refuse_files(tmp_path, "--output-dir")
