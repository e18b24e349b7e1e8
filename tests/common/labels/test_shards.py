"""Shards of a labeling: what is there, what is missing, who may go on."""

import json
import os

import numpy as np
import pytest

from densedist.common.errors import UserError
from densedist.common.labeling import Labeling
from densedist.common.labels.shards import begin, goes_on


def labeling(tmp_path, images=5, **more):
    return Labeling([], {f"{n}": tmp_path / f"{n}.png" for n in range(images)}, tmp_path / "out", shard=2, **more)


def started(tmp_path, **more):
    return begin(labeling(tmp_path, **more), lambda: np.array([0.5, np.inf]))


def content(images, unreadable=()):
    return {"images": [{"id": n} for n in images], "unreadable": list(unreadable), "seconds": 1.0}


def test_a_job_goes_on_with_what_is_missing(tmp_path):
    shards = started(tmp_path)
    assert list(shards.missing) == [0, 1, 2]
    assert shards.least.tolist() == [0.5, np.inf]
    assert [list(shards.numbers(n)) for n in range(3)] == [[0, 1], [2, 3], [4]]
    shards.write(1, content([2, 3]))
    assert shards.written() == 2
    again = begin(labeling(tmp_path, resume=True), lambda: pytest.fail("scores are chosen once"))
    assert list(again.missing) == [0, 2]
    assert again.least.tolist() == [0.5, np.inf]
    for number, images in ((0, [0, 1]), (2, [4])):
        again.write(number, content(images))
    assert [image["id"] for one in again.read() for image in one["images"]] == [0, 1, 2, 3, 4]
    assert again.written() == 5


def test_damaged_shards_and_those_with_unreadable_images_are_done_again(tmp_path, caplog):
    shards = started(tmp_path)
    shards.write(0, content([0], [["1.png", "1.png is damaged"]]))
    shards.write(1, content([2, 3]))
    shards.write(2, content([4]))
    file = tmp_path / "out" / "shards" / "00001.json"
    os.truncate(file, file.stat().st_size // 2)
    again = started(tmp_path, resume=True)
    assert list(again.missing) == [0, 1]
    assert f"--resume: {file} is damaged: its images are labeled again" in caplog.text


def test_who_may_go_on(tmp_path):
    started(tmp_path, settings={"--weights": "a"})
    out = tmp_path / "out"
    with pytest.raises(UserError, match=r"--output-dir: .*out has an unfinished labeling: say --resume to go on"):
        started(tmp_path, settings={"--weights": "a"})
    with pytest.raises(UserError, match=r"out has other settings: --weights, then a, now b: give the same, or"):
        started(tmp_path, settings={"--weights": "b"}, resume=True)
    with pytest.raises(UserError, match=r"out has other settings: 5 images, now 4: give the same, or another"):
        started(tmp_path, settings={"--weights": "a"}, images=4, resume=True)
    job = out / "shards" / "job.json"
    job.write_text(json.dumps(json.loads(job.read_text()) | {"version": 0}))
    with pytest.raises(UserError, match=r"--resume: .*out was begun by another version: name an empty or new folder"):
        started(tmp_path, settings={"--weights": "a"}, resume=True)
    job.write_text("{")
    with pytest.raises(UserError, match=r"--resume: .*job.json is damaged: name an empty or new folder"):
        started(tmp_path, resume=True)


def test_a_study_goes_on_with_its_own_labels_alone(tmp_path):
    asked = {"settings": {"DISTILL.TEACHER.WEIGHTS": "a"}}
    assert not goes_on(labeling(tmp_path, **asked))
    started(tmp_path, **asked)
    assert goes_on(labeling(tmp_path, **asked))
    assert not goes_on(labeling(tmp_path, settings={"DISTILL.TEACHER.WEIGHTS": "b"}))
    assert not goes_on(labeling(tmp_path, images=4, **asked))
    (tmp_path / "out" / "shards" / "job.json").write_text("{")
    assert not goes_on(labeling(tmp_path, **asked))


def test_a_folder_with_other_files_is_refused_with_resume_too(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    with pytest.raises(UserError, match=r"--output-dir: .*out has files: name an empty or new folder"):
        started(tmp_path, resume=True)
    (tmp_path / "out" / "thesis.tex").unlink()
    assert list(started(tmp_path, resume=True).missing) == [0, 1, 2]  # anew


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    shards = started(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("densedist.common.labels.shards.write_text", full)
    with pytest.raises(UserError, match=r"cannot write to .*out: No space left on device: mend that, and --resume"):
        shards.write(0, content([0, 1]))
