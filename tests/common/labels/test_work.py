"""The loop of a labeling: the same output whoever shares the work, and whoever is killed."""

import json

import pytest

from densedist.common.errors import UserError
from densedist.common.labels.loading import Item, by_size
from densedist.common.labels.progress import in_words
from densedist.common.labels.work import in_words as unreadable_in_words
from helpers.labels import in_processes, job, label, label_files


@pytest.fixture
def texts(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(17):
        (folder / f"{number:02}").write_text("x" * (number % 3 + 1))
    return folder


def labeled(folder, output, **more):
    label(job(folder, output, **more))
    return json.loads((output / "labels.json").read_text())


def test_every_image_is_labeled_in_order(texts, tmp_path):
    found = labeled(texts, tmp_path / "out")
    assert [image["id"] for image in found["images"]] == list(range(17))
    assert [image["name"] for image in found["images"]] == sorted(file.name for file in texts.iterdir())
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["labels.json"]


def test_workers_change_nothing(texts, tmp_path, monkeypatch):
    monkeypatch.setattr("densedist.common.labels.work.EACH", 1)
    label(job(texts, tmp_path / "a"), workers=2)
    labeled(texts, tmp_path / "b")
    assert (tmp_path / "a" / "labels.json").read_text() == (tmp_path / "b" / "labels.json").read_text()


def test_images_of_one_size_are_seen_together(texts, tmp_path):
    found = labeled(texts, tmp_path / "out", batch=2, shard=6)
    assert [image["id"] for image in found["images"]] == list(range(17))
    assert [image["together"] for image in found["images"][:12]] == [2] * 12
    assert all(image["text"] == "x" * (image["id"] % 3 + 1) for image in found["images"])


def test_what_waits_for_its_size_does_not_fill_the_memory():
    items = [Item(number, "", "", size=number) for number in range(100)]
    groups = by_size(iter(items), 2)
    first = next(groups)
    assert [item.number for item in first] == [0]
    assert sorted(item.number for group in [first, *groups] for item in group) == list(range(100))


@pytest.mark.parametrize("death", [(0, 1, 0.0), (1, 2, 0.5), (0, 3, 1)])
def test_killed_jobs_go_on(texts, tmp_path, death):
    """Two processes, of which one is killed before, in and after it writes a shard; then any number goes on."""
    labeled(texts, tmp_path / "whole")
    out = tmp_path / "out"
    assert not in_processes(2, label_files, texts, out, *death)
    assert not (out / "labels.json").exists()
    if death[0]:
        assert in_processes(2, label_files, texts, out)
    else:
        label_files(texts, out)
    assert (out / "labels.json").read_text() == (tmp_path / "whole" / "labels.json").read_text()
    assert [file.name for file in out.iterdir()] == ["labels.json"]


def test_few_unreadable_images_are_named_at_the_end(texts, tmp_path):
    (texts / "03").write_text("damaged")
    found = labeled(texts, tmp_path / "out", most_unreadable=0.1)
    assert [image["id"] for image in found["images"]] == [n for n in range(17) if n != 3]
    assert found["unreadable"] == [[str(texts / "03"), f"{texts / '03'} is damaged"]]


def test_many_unreadable_images_end_the_job(texts, tmp_path):
    """Those that are mended are labeled when it goes on."""
    for name in ("05", "06", "07"):
        (texts / name).write_text("damaged")
    with pytest.raises(UserError) as refused:
        labeled(texts, tmp_path / "out", most_unreadable=0.1)
    assert str(refused.value) == (
        f"3 of 17 images cannot be read, first {texts / '06'} is damaged: mend or remove them, or allow more than 0.1 "
        "of all by --max-unreadable"
    )
    for name in ("05", "06", "07"):
        (texts / name).write_text("xx")
    found = labeled(texts, tmp_path / "out", most_unreadable=0.1, resume=True)
    assert [image["id"] for image in found["images"]] == list(range(17))
    assert not found["unreadable"]


def test_an_image_alone_that_cannot_be_read_leaves_nothing(tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a").write_text("damaged")
    with pytest.raises(UserError, match=r"^.*/texts/a is damaged$"):
        labeled(tmp_path / "texts", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_unreadable_images_in_words():
    assert unreadable_in_words([]) == ""
    assert unreadable_in_words([("a", "a is empty")]) == ("1 image cannot be read and has no labels:\n  a is empty\n")
    assert unreadable_in_words([("a", "a is empty")] * 11).splitlines()[::11] == [
        "11 images cannot be read and have no labels:",
        "  … all of them are in labels.json",
    ]


def test_progress_in_words():
    assert in_words(150, 1000, 50, 50.0) == "labeling: 150 of 1000 images, 2 images/s, 7 min left"
    assert in_words(990, 1000, 0, 990.0) == "labeling: 990 of 1000 images, 1 images/s, 10 s left"
    assert in_words(1000, 20_000_000, 0, 100.0).endswith(", 10 images/s, 555 h 32 min left")
    assert in_words(5, 10, 5, 60.0) == "labeling: 5 of 10 images, 0 images/s"
