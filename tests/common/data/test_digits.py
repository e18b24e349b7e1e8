"""The digits scenes: deterministic, disjoint, true to their annotations, made once."""

import hashlib
import multiprocessing
import shutil

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from densedist.common.data import digits


@pytest.fixture
def fresh_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def content(folder):
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_same_scenes_every_time(fresh_cache, monkeypatch):
    first = content(digits.ensure())
    monkeypatch.setenv("XDG_CACHE_HOME", str(fresh_cache / "other"))
    assert content(digits.ensure()) == first
    assert len(first) == 2 * sum(digits.SCENES.values()) + len(digits.SPLITS)


def test_digits_are_those_that_the_benchmarks_were_made_of():
    """As scikit-learn's load_digits gives them."""
    with np.load(digits.HANDWRITTEN) as data:
        images, classes = data["images"], data["classes"]
    assert (images.shape, images.max(), images.sum()) == ((1797, 8, 8), 16, 561718)
    assert np.bincount(classes).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert classes[:10].tolist() == list(range(10))


def test_made_only_once(fresh_cache, monkeypatch):
    digits.ensure()
    monkeypatch.setattr(digits, "_make", lambda folder: pytest.fail("made again"))
    digits.ensure()


def _ensure_and_report(queue, start):
    start.wait()
    queue.put(content(digits.ensure()))


def test_two_processes_at_once(fresh_cache):
    context = multiprocessing.get_context("fork")
    queue, start = context.Queue(), context.Event()
    workers = [context.Process(target=_ensure_and_report, args=(queue, start)) for _ in range(3)]
    for worker in workers:
        worker.start()
    start.set()
    seen = [queue.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert seen[0] == seen[1] == seen[2]
    assert [folder.name for folder in (fresh_cache / "dense-dist").iterdir()] == [f"digits-v{digits.VERSION}"]


def test_nothing_is_left_of_a_failed_making(fresh_cache, monkeypatch):
    def fail(folder):
        (folder / "half.png").write_bytes(b"")
        raise KeyboardInterrupt

    monkeypatch.setattr(digits, "_make", fail)
    with pytest.raises(KeyboardInterrupt):
        digits.ensure()
    assert list((fresh_cache / "dense-dist").iterdir()) == []


def test_splits_share_no_digit():
    ranges = [set(range(*span)) for span in digits.DIGITS.values()]
    assert sum(map(len, ranges)) == len(set.union(*ranges)) == 1797


@pytest.mark.parametrize("split", digits.SPLITS)
def test_boxes_and_areas_are_those_of_the_masks(split):
    coco = COCO(str(digits.annotations(split)))
    assert [category["name"] for category in coco.cats.values()] == list("0123456789")
    for image in coco.imgs.values():
        assert (digits.images(split) / image["file_name"]).is_file()
        objects = coco.imgToAnns[image["id"]]
        assert objects
        masks = np.stack([coco.annToMask(o) for o in objects])
        assert (masks.sum(0) <= 1).all()  # the visible part only
        for o, mask in zip(objects, masks, strict=True):
            assert o["area"] == mask.sum() >= 20
            assert o["bbox"] == coco_mask.toBbox(o["segmentation"]).tolist()


@pytest.mark.parametrize("split", digits.SCENES)
def test_label_images_say_the_same_as_the_masks(split):
    coco = COCO(str(digits.annotations(split)))
    labels = digits.root() / "gtFine" / split / "digits"
    for image in coco.imgs.values():
        wanted = np.zeros((digits.SIZE, digits.SIZE), np.uint8)
        for o in coco.imgToAnns[image["id"]]:
            wanted[coco.annToMask(o) > 0] = o["category_id"]
        name = image["file_name"].replace("leftImg8bit", "gtFine_labelIds")
        assert np.array_equal(cv2.imread(str(labels / name), cv2.IMREAD_UNCHANGED), wanted)


def test_few_labels_are_the_first_training_scenes_with_all_their_objects(tmp_path, monkeypatch):
    shutil.copy(digits.annotations("train"), tmp_path)
    monkeypatch.setattr(digits, "FEW", 5)
    digits._write_few(tmp_path)
    few, whole = COCO(str(tmp_path / "train_5.json")), COCO(str(digits.annotations("train")))
    assert few.imgs == {key: value for key, value in whole.imgs.items() if key <= 5}
    assert few.anns == {key: value for key, value in whole.anns.items() if value["image_id"] <= 5}
    assert digits.images("train_5") == digits.images("train")
