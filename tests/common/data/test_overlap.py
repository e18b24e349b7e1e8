"""Images of DATASETS.TEST that training sees are named, whatever their files are called."""

import os
import shutil
from types import SimpleNamespace

import pytest

from densedist.common.compare.study import Study
from densedist.common.config import load
from densedist.common.data import overlap
from densedist.common.data.overlap import overlaps, shared_images
from densedist.common.tune.data import Validation
from densedist.det.config import GRAMMAR

LONG = bytes(range(256)) * 100


@pytest.fixture
def sides(tmp_path):
    """Files of two sides: by name, what they hold."""

    def write(one, other):
        found = []
        for side, files in (("one", one), ("other", other)):
            (tmp_path / side).mkdir(exist_ok=True)
            for name, content in files.items():
                (tmp_path / side / name).write_bytes(content)
            found.append({str(tmp_path / side / name) for name in files})
        return found

    return write


def names(found):
    return [os.path.basename(file) for file in found]


def test_files_are_the_same_by_what_they_hold(sides):
    changed = bytearray(LONG)
    changed[7000] ^= 1  # neither in the beginning, the middle nor the end
    one, other = sides(
        {"a": LONG, "b": b"x", "c": b"y", "d": bytes(changed), "e": b""}, {"z": LONG, "b": b"z", "e": b"", "y": b"xx"}
    )
    assert names(shared_images(one, other)) == ["a"]
    assert names(shared_images(other, one)) == ["z"]
    assert shared_images(one, set()) == shared_images(set(), one) == []


def test_links_and_files_that_are_gone(sides, tmp_path, monkeypatch):
    one, other = sides({"a": b"1", "b": b"2"}, {"z": b"3"})
    os.symlink(tmp_path / "one" / "a", tmp_path / "other" / "link")
    os.symlink(tmp_path / "nowhere", tmp_path / "other" / "broken")
    monkeypatch.setattr(overlap, "_whole", lambda file: 1 / 0)  # one file by two names needs no reading
    other |= {str(tmp_path / "other" / name) for name in ("link", "broken", "missing")}
    assert names(shared_images(one, other)) == ["a"]
    assert names(shared_images(one, one)) == ["a", "b"]


def test_only_what_looks_alike_is_read(sides, monkeypatch):
    read = []
    monkeypatch.setattr(overlap, "_whole", lambda file: read.append(file))
    one, other = sides({"a": b"1" * 9000, "b": b"2"}, {"z": b"3" * 9000, "y": b"22"})
    assert shared_images(one, other) == []
    assert read == []


def config(*words):
    return load(GRAMMAR, "", ["DATASETS.TRAIN", "('t',)", "DATASETS.TEST", "('v',)", *words])


@pytest.fixture
def images(sides, tmp_path):
    """A data set has the files of the folder of its name: v has three images, two of t and one of u among them."""
    sides({}, {})
    for name, files in {"t": "12", "u": "34", "v": "123", "w": "9"}.items():
        (tmp_path / name).mkdir()
        for content in files:
            (tmp_path / name / f"{name}{content}.png").write_bytes(content.encode())
    return lambda cfg, side: {str(file) for name in cfg.DATASETS[side] for file in (tmp_path / name).iterdir()}


def test_what_is_said(images, tmp_path):
    said = (
        f"2 of 3 images of DATASETS.TEST are in DATASETS.TRAIN, too, first {tmp_path}/v/v1.png: scores on them say "
        "little of other images"
    )
    assert overlaps(config(), images) == [said]
    found = overlaps(config("DATASETS.UNLABELED", "('u', 'w')"), images)
    assert [found[0], found[1][:62]] == [said, "1 of 3 images of DATASETS.TEST are in DATASETS.UNLABELED, too,"]
    (written,) = overlaps(config("DATASETS.TRAIN", "()", "DATASETS.PSEUDO_LABELED", "['t']"), images)
    assert written == said.replace("DATASETS.TRAIN", "DATASETS.PSEUDO_LABELED")
    assert overlaps(config("DATASETS.TEST", "('w',)"), images) == []
    assert overlaps(config("DATALOADER.CHECK_FILES", "False"), images) == []
    assert overlaps(config("DATASETS.TEST", "()"), images) == overlaps(config("DATASETS.TRAIN", "()"), images) == []


def test_a_comparison_says_it(images, tmp_path, capsys):
    task = SimpleNamespace(name="seg", best="labels", load_config=lambda _, words: config(*words), images=images)
    study = Study(task, "c.yaml", ["none", "unlabeled"], [0], tmp_path, unlabeled=["u"])
    found = study._write({"none": {}, "unlabeled": {}}, {}, [])
    assert [line[:61] for line in found["shared_images"]] == [
        "2 of 3 images of DATASETS.TEST are in DATASETS.TRAIN, too, fi",
        "1 of 3 images of DATASETS.TEST are in DATASETS.UNLABELED, too",
    ]
    table = (tmp_path / "table.md").read_text()
    assert all(f"\n- {line}" in table for line in found["shared_images"])


def test_a_search_says_it(images, tmp_path):
    """What is chosen on is seen in training, or is that of the report, under other names."""
    task = SimpleNamespace(images=images)
    shutil.copy(tmp_path / "w" / "w9.png", tmp_path / "v" / "again.png")
    found = Validation(["w"]).shared(task, config(), config("DATASETS.TEST", "('w',)"))
    assert found == [
        f"1 of the 1 images that are chosen on are in DATASETS.TEST, first {tmp_path}/w/w9.png: figures on it are no "
        "longer a fair report of the student"
    ]
    shutil.copy(tmp_path / "w" / "w9.png", tmp_path / "t" / "again.png")
    found = Validation(["w"]).shared(task, config(), config("DATASETS.TEST", "('w',)"))
    assert found[0].startswith("1 of 1 images of DATASETS.TEST are in DATASETS.TRAIN, too, first")
    assert len(found) == 2
