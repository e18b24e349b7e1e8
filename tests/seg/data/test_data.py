"""Reading Cityscapes' format: what is found, what is read, how it is augmented, what is refused."""

import os
import re
from importlib import import_module
from itertools import chain, islice

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from densedist.common.data import digits
from densedist.common.errors import UserError
from densedist.common.randomness import RunPosition
from densedist.seg.checks import check_data
from densedist.seg.data.frames import frames
from densedist.seg.data.reading import Reader
from densedist.seg.data.transforms import TrainingTransform
from densedist.seg.labels import IGNORE, Classes
from densedist.seg.loader import training_batches
from helpers.scenes import CONFIGS, STUDENT, config, write_tree

ROAD = {"name": "road", "ids": [7], "color": [128, 64, 128]}
SIDEWALK = {"name": "sidewalk", "ids": [8, 9], "color": [244, 35, 232]}
CLASSES = Classes([ROAD, SIDEWALK], [0])


def found(root, split="train", need_labels=True):
    return frames(str(root), split, "DATASETS.TRAIN", need_labels)


def test_frames_are_images_with_their_labels_sorted(tmp_path):
    write_tree(tmp_path, count=3)
    names = [frame["name"] for frame in found(tmp_path)]
    assert names == [f"town_000000_00000{i}" for i in range(3)]
    assert all("gtFine_labelIds" in frame["label"] for frame in found(tmp_path))


def test_slice_of_a_split(tmp_path):
    write_tree(tmp_path, count=3)
    whole = found(tmp_path)
    assert found(tmp_path, "train[:2]") == whole[:2]
    assert found(tmp_path, "train[2:]") == whole[2:]
    assert found(tmp_path, "train[1:2]") == whole[1:2]


def test_a_split_is_listed_once_until_a_file_comes_or_goes(tmp_path, monkeypatch):
    calls, module = [], import_module("densedist.seg.data.frames")  # the package has a function of that name
    listed = module.image_files
    monkeypatch.setattr(module, "image_files", lambda *args: calls.append(args) or listed(*args))
    write_tree(tmp_path, count=3)
    found(tmp_path)
    assert len(found(tmp_path)) == 3
    assert len(calls) == 2  # the folders have just changed: another change may not show in their times
    for folder in tmp_path.rglob("*"):
        if folder.is_dir():
            os.utime(folder, (1, 1))
    first = found(tmp_path)
    first[0]["name"] = "mine"
    assert [frame["name"] for frame in found(tmp_path)] == [f"town_000000_00000{i}" for i in range(3)]
    assert len(calls) == 3
    min(tmp_path.glob("gtFine/train/*/*")).unlink()
    with pytest.raises(UserError, match="has no label"):
        found(tmp_path)


def test_split_without_any_label_is_fine_for_testing_only(tmp_path):
    write_tree(tmp_path, "test", labels=False)
    assert [frame["label"] for frame in found(tmp_path, "test", need_labels=False)] == [None, None]
    with pytest.raises(UserError, match="has no label"):
        found(tmp_path, "test")


def test_digits_have_a_label_for_every_scene():
    assert len(found("digits")) == digits.SCENES["train"]


@pytest.mark.parametrize(
    ("root", "split", "message"),
    [
        ("", "train", "DATASETS.ROOT is empty"),
        ("{tree}", "val", "DATASETS.TRAIN: there is no folder {tree}/leftImg8bit/val; want leftImg8bit/SPLIT/CITY/"),
        ("{tree}", "train[7:]", "no image of train[7:] in {tree}/leftImg8bit/train"),
        ("{tree}", "train[0]", "train[0] is not a split's name, or one with a slice, as train[:100]"),
    ],
)
def test_missing_parts_of_the_tree_are_named(tmp_path, root, split, message):
    tree = write_tree(tmp_path / "tree")
    with pytest.raises(UserError, match=re.escape(message.format(tree=tree))):
        found(root.format(tree=tree), split)


def test_image_without_label_is_named(tmp_path):
    write_tree(tmp_path)
    gone = tmp_path / "gtFine/train/town/town_000000_000001_gtFine_labelIds.png"
    gone.unlink()
    with pytest.raises(UserError, match=rf"000001_leftImg8bit.png has no label {gone}"):
        found(tmp_path, need_labels=False)


def test_label_ids_become_train_ids_and_channels_come_in_order(tmp_path):
    write_tree(tmp_path, ids=(7, 8, 9, 0))
    frame = found(tmp_path)[0]
    rgb, bgr = Reader(CLASSES, "RGB")(frame), Reader(CLASSES, "BGR")(frame)
    label_ids = cv2.imread(frame["label"], cv2.IMREAD_UNCHANGED)
    wanted = np.select([label_ids == 7, label_ids >= 8], [0, 1], IGNORE)
    assert np.array_equal(rgb["sem_seg"], wanted)
    assert np.array_equal(bgr["image"].permute(1, 2, 0), cv2.imread(frame["image"]))
    assert torch.equal(rgb["image"].flip(0), bgr["image"])
    assert (rgb["name"], rgb["height"], rgb["width"]) == (frame["name"], 40, 56)


def test_unknown_label_id_is_named(tmp_path):
    write_tree(tmp_path, ids=(7, 11, 13))
    with pytest.raises(UserError, match=r"labelIds.png holds labelIds \[11, 13\], which the config does not name"):
        Reader(CLASSES, "RGB")(found(tmp_path)[0])


def test_sizes_that_disagree_are_named(tmp_path):
    write_tree(tmp_path)
    frame = found(tmp_path)[0]
    cv2.imwrite(frame["label"], np.zeros((20, 56), np.uint8))
    with pytest.raises(UserError, match=r"labelIds.png has \(20, 56\) pixels and its image \(40, 56\): they"):
        Reader(CLASSES, "RGB")(frame)


def test_damaged_image_is_named(tmp_path):
    write_tree(tmp_path)
    frame = found(tmp_path)[0]
    with open(frame["image"], "wb") as file:
        file.write(b"no image")
    with pytest.raises(UserError, match=r"leftImg8bit\.png cannot be read as an image"):
        Reader(CLASSES, "RGB")(frame)


@pytest.mark.parametrize(
    ("kind", "damage", "message"),
    [
        ("leftImg8bit", lambda file: file.write_bytes(b""), "is empty"),
        ("gtFine", lambda file: file.write_bytes(file.read_bytes()[:-200]), "is damaged: "),
        ("gtFine", lambda file: cv2.imwrite(str(file), np.zeros((20, 56))), "is 56x20 pixels, but 56x40 in its image"),
    ],
)
def test_damaged_files_are_found_before_training(tmp_path, kind, damage, message):
    file = sorted((write_tree(tmp_path) / kind / "train/town").iterdir())[1]
    damage(file)
    cfg = config(STUDENT, "DATASETS.ROOT", tmp_path)
    with pytest.raises(UserError) as error:
        check_data(cfg, "TRAIN")
    assert str(error.value).startswith(f"DATASETS.TRAIN: 1 of 2 images cannot be used, first {file} {message}")
    cfg.DATALOADER.CHECK_FILES = False
    check_data(cfg, "TRAIN")


def tree(folder, *labels, classes=(0, 1), ignored=()):
    """The config of a data set with these labels."""
    names = [{"name": f"c{i}", "ids": [i], "color": [i, 0, 0]} for i in classes]
    for number, label in enumerate(labels):
        write_tree(folder, f"s{number}", 1, label.shape[:2])
        cv2.imwrite(found(folder, f"s{number}")[0]["label"], label)
    splits = ["DATASETS.TRAIN", "['s0']", "DATASETS.TEST", f"['s{len(labels) - 1}']", "MODEL.CLASS_WEIGHTS", "[]"]
    ids = ["DATASETS.CLASSES", str(names), "DATASETS.IGNORED_IDS", str(list(ignored))]
    return config(STUDENT, "DATASETS.ROOT", folder, *splits, *ids)


HALF = np.kron(np.array([[0, 1]], np.uint8), np.ones((40, 28), np.uint8))


def test_label_ids_without_a_meaning_are_found_before_training(tmp_path):
    """255 is no exception: it is ignored only if IGNORED_IDS names it, and may be a class."""
    file = tmp_path / "gtFine/s0/town/town_000000_000000_gtFine_labelIds.png"
    with pytest.raises(UserError) as refused:
        check_data(tree(tmp_path, HALF * 255))
    assert str(refused.value) == (
        f"DATASETS.TRAIN: 1 labels, first {file}, hold labelIds [255], which the config does not name: add them to "
        "DATASETS.CLASSES or DATASETS.IGNORED_IDS"
    )


def test_255_may_be_a_class_or_ignored(tmp_path, caplog):
    as_class = tree(tmp_path / "a", HALF * 255, classes=(0, 255))
    check_data(as_class)
    sample = next(iter(training_batches(as_class)(RunPosition(0))))[0]
    assert set(sample["sem_seg"].unique().tolist()) == {0, 1, IGNORE}, "padded, and both classes"
    assert "no pixel" not in caplog.text
    ignored = tree(tmp_path / "b", HALF * 255, ignored=(255,))
    check_data(ignored)
    assert "DATASETS.TRAIN: no pixel of c1" in caplog.text


def test_labels_that_are_ignored_altogether_are_named(tmp_path):
    with pytest.raises(UserError) as refused:
        check_data(tree(tmp_path, HALF, HALF * 0 + 7, ignored=(7,)))
    assert str(refused.value) == (
        "DATASETS.TEST: no pixel of its labels counts: all of their labelIds are in DATASETS.IGNORED_IDS"
    )


@pytest.mark.parametrize("orientation", [2, 3, 6])
def test_turned_images_with_labels_are_named(tmp_path, orientation):
    cfg = tree(tmp_path, HALF)
    file, exif = found(tmp_path, "s0")[0]["image"], Image.Exif()
    exif[0x0112] = orientation
    Image.open(file).save(file, exif=exif)
    with pytest.raises(UserError) as refused:
        check_data(cfg)
    assert f"first {file} is shown turned (EXIF orientation {orientation}), and only you know" in str(refused.value)
    with pytest.raises(UserError, match="is shown turned"):  # where nobody looked before
        Reader(CLASSES, "RGB")(found(tmp_path, "s0")[0])


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (np.dstack([HALF] * 3), "has colors (RGB): want one channel, of labelIds"),
        (HALF.astype(np.uint16) * 999, "holds labelIds from 0 to 999: want 0 to 255"),
    ],
)
def test_labels_of_another_kind_are_named(tmp_path, label, message):
    cfg = tree(tmp_path, label)
    with pytest.raises(UserError) as refused:
        check_data(cfg)
    assert f"first {found(tmp_path, 's0')[0]['label']} {message}" in str(refused.value)


def test_deep_images_are_named(tmp_path):
    cfg = tree(tmp_path, HALF)
    cv2.imwrite(found(tmp_path, "s0")[0]["image"], np.full((40, 56), 999, np.uint16))
    with pytest.raises(UserError, match=r"leftImg8bit.png has 16 bits a channel: want 8 bits"):
        check_data(cfg)


@pytest.mark.parametrize(
    ("classes", "ignored", "message"),
    [
        ([], [], "DATASETS.CLASSES is empty"),
        ([{"name": "road"}], [], "is not {name: …, ids: [labelId, …], color: [r, g, b]}"),
        ([ROAD | {"ids": [300]}], [], "ids of road are [300]: want numbers from 0 to 255"),
        ([ROAD | {"color": [1, 2]}], [], "color of road is [1, 2]"),
        ([ROAD], [-1], "DATASETS.IGNORED_IDS: [-1] are not numbers from 0 to 255"),
        (
            [ROAD, SIDEWALK | {"name": "road"}],
            [],
            "DATASETS.CLASSES: two classes are named road: give each its own name",
        ),
        ([ROAD, SIDEWALK | {"ids": [7]}], [], "labelId 7 is given two meanings"),
        ([ROAD], [7], "labelId 7 is given two meanings"),
        ([ROAD | {"name": str(i)} for i in range(255)], [], "DATASETS.CLASSES has 255 classes: want 254 at most"),
        ([ROAD | {"ids": [True]}], [], "ids of road are [True]: want numbers from 0 to 255"),
    ],
)
def test_label_map_that_makes_no_sense(classes, ignored, message):
    with pytest.raises(UserError, match=re.escape(message)):
        Classes(classes, ignored)


def test_cityscapes_classes_are_those_of_cityscapesscripts():
    from cityscapesscripts.helpers.labels import labels

    classes = Classes.of(config(CONFIGS / "data" / "cityscapes.yaml"))
    for label in labels:
        if label.id >= 0:
            assert classes.train_ids[label.id] == label.trainId
        if 0 <= label.trainId < 19:
            assert classes.names[label.trainId] == label.name
            assert tuple(classes.colors[label.trainId]) == label.color
            assert classes.label_ids[label.trainId] == label.id


def pair(height, width):
    """An image whose red channel is its label."""
    label = np.random.default_rng(0).integers(0, 200, (height // 8, width // 8), dtype=np.uint8)
    label = np.kron(label, np.ones((8, 8), np.uint8))
    return np.dstack([label, label, label]), label


def test_crop_without_scaling_keeps_image_and_label_together():
    transform = TrainingTransform([1.0], (32, 48), True, (1, 2, 3))
    for _ in range(5):
        image, label = transform(*pair(80, 80))
        assert image.shape == (32, 48, 3)
        assert np.array_equal(image[..., 0], label)


def test_padding_is_bottom_and_right_mean_colored_and_ignored():
    image, label = TrainingTransform([1.0], (64, 64), False, (1, 2, 3))(*pair(40, 48))
    assert np.array_equal(image[:40, :48, 0], pair(40, 48)[1])
    for part in (np.s_[40:], np.s_[:, 48:]):
        assert (image[part] == (1, 2, 3)).all()
        assert (label[part] == IGNORE).all()


def test_scales_are_the_given_ones_and_labels_are_not_interpolated():
    transform, widths = TrainingTransform([0.5, 1.0, 2.0], (160, 160), False, (0, 0, 0)), set()
    for _ in range(20):
        _, label = transform(*pair(80, 80))
        widths.add((label != IGNORE).any(0).sum())
        assert set(np.unique(label)) <= {*np.unique(pair(80, 80)[1]), IGNORE}
    assert widths == {40, 80, 160}


def test_flip_mirrors_about_half_of_the_samples():
    transform, image = TrainingTransform([1.0], (40, 40), True, (0, 0, 0)), pair(40, 40)
    np.random.seed(0)
    flipped = [np.array_equal(transform(*image)[1], image[1][:, ::-1]) for _ in range(60)]
    assert 15 < sum(flipped) < 45


def batches(start, workers=0, count=3):
    """The first batches from a start on, of 2 of 12 images."""
    keys = ["INPUT.SCALES", "[0.5,1.0,1.5]", "INPUT.RANDOM_FLIP", "horizontal", "SOLVER.ACCUMULATION_STEPS", "2"]
    cfg = config(STUDENT, *keys, "SOLVER.IMS_PER_BATCH", "4", "DATALOADER.NUM_WORKERS", workers)
    return [[x["image"] for x in batch] for batch in islice(iter(training_batches(cfg)(start)), count)]


def equal(first, second):
    return all(torch.equal(a, b) for a, b in zip(chain(*first), chain(*second), strict=True))


def test_samples_depend_on_the_seed_and_their_place_alone():
    """Augmentation included, which albumentations would draw from a state of its own."""
    torch.manual_seed(5)
    wanted, state = batches(RunPosition(3), count=8), torch.get_rng_state()
    torch.manual_seed(5)
    assert torch.equal(torch.get_rng_state(), state)  # nothing drawn from the model's random numbers
    np.random.seed(1)
    assert equal(batches(RunPosition(3, iteration=2), count=4), wanted[4:])  # two batches make an iteration
    assert equal(batches(RunPosition(3, iteration=1), workers=2), wanted[2:5])
    assert not equal(batches(RunPosition(4)), wanted[:3])
    # The images come again in the third epoch, augmented in another way.
    assert not any(torch.equal(a, b) for a in chain(*wanted[:3]) for b in chain(*wanted[6:]))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("INPUT.SCALES", "[]", "want numbers above 0"),
        ("INPUT.SCALES", "[0.5, -1.0]", "want numbers above 0"),
        ("INPUT.CROP_SIZE", "[64]", "want [height, width]"),
        ("INPUT.RANDOM_FLIP", "vertical", "want none or horizontal"),
    ],
)
def test_augmentation_out_of_range(key, value, message):
    with pytest.raises(UserError, match=re.escape(message)) as error:
        config(STUDENT, key, value)
    assert key in str(error.value)
