"""Data as Pascal VOC, ADE20K and Cityscapes' other labels have it, with the packaged files of classes."""

import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

from densedist.common.errors import UserError
from densedist.seg.checks import check_data
from densedist.seg.data.preparing import prepare
from densedist.seg.data.reading import Reader
from densedist.seg.datasets import test_frames as frames_to_test
from densedist.seg.datasets import training_frames, unlabeled_frames
from densedist.seg.labels import IGNORE, Classes
from densedist.seg.models import read_config
from helpers.calling import complaint, densedist
from helpers.scenes import SMALL, write_tree

SIZE = (20, 30)
RNG = np.random.default_rng(0)


def image(file):
    file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(file), RNG.integers(0, 256, (*SIZE, 3), dtype=np.uint8))


def mask(file, numbers, palette=None):
    file.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(numbers)
    if palette is not None:
        picture.putpalette(palette)  # an "L" image becomes one of indices
    picture.save(file)


def voc(root):
    """Three images of which two have masks of indices, and SBD's masks in gray for all."""
    palette = [value for n in range(256) for value in (n, 255 - n, 7)]
    for number, name in enumerate(("2007_000032", "2007_000039", "2008_000008")):
        image(root / "JPEGImages" / f"{name}.jpg")
        numbers = RNG.choice(np.array([0, 15, 20, 255], np.uint8), SIZE)
        if number < 2:
            mask(root / "SegmentationClass" / f"{name}.png", numbers, palette)
        mask(root / "SegmentationClassAug" / f"{name}.png", numbers)
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_000039\n2007_000032\n\n")
    (lists / "trainaug.txt").write_text("2007_000032\n2008_000008\n")
    (lists / "test.txt").write_text("2008_000008\n")
    return root


def voc_config(root, *more):
    sets = [["train", "train"], ["aug", "trainaug", "SegmentationClassAug"], ["test", "test"], ["partly", "trainaug"]]
    entries = str([[name, str(root), *where] for name, *where in sets])
    keys = ["DATASETS.VOC_FORMAT", entries, "DATASETS.TRAIN", "['train', 'aug[1:]']", "DATASETS.TEST", "['test']"]
    return read_config("seg/data/voc.yaml", [*keys, *more])


def test_voc(tmp_path, caplog):
    cfg = voc_config(voc(tmp_path), "DATASETS.UNLABELED", "['test']")
    check_data(cfg)
    assert "no pixel of aeroplane, bicycle" in caplog.text
    read, found = Reader(Classes.of(cfg), "RGB"), training_frames(cfg)
    assert [frame["name"] for frame in found] == ["2007_000039", "2007_000032", "2008_000008"]
    for frame in found:
        with Image.open(tmp_path / "SegmentationClassAug" / f"{frame['name']}.png") as picture:
            assert np.array_equal(read(frame)["sem_seg"], np.asarray(picture))
    assert [frame["label"] for frame in frames_to_test(cfg) + unlabeled_frames(cfg)] == [None, None]


def test_voc_in_its_colors(tmp_path):
    """Masks that were saved as they are shown."""
    cfg = voc_config(voc(tmp_path), "DATASETS.TRAIN", "['train']")
    colors = np.array([[224, 224, 192], *Classes.of(cfg).colors], np.uint8)
    numbers = RNG.integers(0, 22, SIZE)
    for file in (tmp_path / "SegmentationClass").iterdir():
        Image.fromarray(colors[numbers]).save(file)
    check_data(cfg)
    wanted = np.where(numbers == 0, IGNORE, numbers - 1)
    assert np.array_equal(Reader(Classes.of(cfg), "RGB")(training_frames(cfg)[0])["sem_seg"], wanted)


@pytest.mark.parametrize(
    ("change", "keys", "message"),
    [
        ("ImageSets/Segmentation/train.txt", [], "DATASETS.VOC_FORMAT, train: there is no {root}/ImageSets"),
        ("JPEGImages/2007_000032.jpg", [], "train: 1 of 2 images are missing, first {root}/JPEGImages/2007_000032.jpg"),
        ("SegmentationClass/2007_000039.png", [], "1 of 2 images have no mask, first {root}/SegmentationClass/2007"),
        (None, ["DATASETS.TRAIN", "['test']"], "test: 1 of 1 images have no mask"),
        (None, ["DATASETS.TEST", "['partly']"], "partly: 1 of 2 images have no mask"),
        (None, ["DATASETS.TRAIN", "['train[5:]']"], "DATASETS.TRAIN: train[5:] has no image"),
        (
            None,
            ["DATASETS.VOC_FORMAT", "[['a', 'b']]"],
            "['a', 'b'] is not [name, folder, split], and perhaps a folder of",
        ),
        (None, ["DATASETS.FOLDERS", "[['aug', 'a', 'b']]"], "DATASETS.VOC_FORMAT: two are named aug: give each"),
    ],
)
def test_what_is_wrong_with_voc(change, keys, message, tmp_path):
    voc(tmp_path)
    if change:
        (tmp_path / change).unlink()
    with pytest.raises(UserError) as error:
        check_data(voc_config(tmp_path, *keys))
    assert message.format(root=tmp_path) in str(error.value)


def test_voc_list_without_a_name(tmp_path):
    (voc(tmp_path) / "ImageSets/Segmentation/train.txt").write_text("\n")
    with pytest.raises(UserError, match=r"VOC_FORMAT, train: .*train\.txt names no image"):
        check_data(voc_config(tmp_path))


def ade20k(root):
    for split, word, count in (("training", "train", 3), ("validation", "val", 1)):
        for number in range(1, count + 1):
            name = f"ADE_{word}_{number:08}"
            image(root / "images" / split / f"{name}.jpg")
            mask(root / "annotations" / split / f"{name}.png", RNG.integers(0, 151, SIZE, dtype=np.uint8))
    image(root / "images" / "testing" / "ADE_test_00000001.jpg")
    return root


def ade20k_keys(root, *more):
    splits = [[name, str(root), name] for name in ("training", "validation", "testing")]
    keys = ["DATASETS.ADE20K_FORMAT", str(splits), "DATASETS.TRAIN", "['training']", "DATASETS.TEST", "['validation']"]
    return [*keys, *more]


def test_ade20k(tmp_path):
    cfg = read_config("seg/data/ade20k.yaml", ade20k_keys(ade20k(tmp_path), "DATASETS.UNLABELED", "['testing']"))
    check_data(cfg)
    read, found = Reader(Classes.of(cfg), "RGB"), training_frames(cfg)
    assert [frame["name"] for frame in found] == [f"ADE_train_{n:08}" for n in (1, 2, 3)]
    for frame in found + frames_to_test(cfg):
        with Image.open(frame["label"]) as picture:
            numbers = np.asarray(picture).astype(int)
        assert np.array_equal(read(frame)["sem_seg"], np.where(numbers == 0, IGNORE, numbers - 1))
    assert [frame["label"] for frame in unlabeled_frames(cfg)] == [None]
    names = Classes.of(cfg).names
    assert (len(names), names[0], names[12], names[149]) == (150, "wall", "person", "flag")


def test_ade20k_without_a_mask_or_a_split(tmp_path):
    ade20k(tmp_path)
    with pytest.raises(UserError, match=r"ADE20K_FORMAT, testing: there is no folder .*annotations/testing"):
        check_data(read_config("seg/data/ade20k.yaml", ade20k_keys(tmp_path, "DATASETS.TRAIN", "['testing']")))
    (tmp_path / "annotations/training/ADE_train_00000002.png").unlink()
    with pytest.raises(UserError, match="ADE20K_FORMAT, training: 1 of 3 images have no mask of the same name"):
        check_data(read_config("seg/data/ade20k.yaml", ade20k_keys(tmp_path)))


@pytest.mark.parametrize(("data", "keys"), [("voc", voc_config), ("ade20k", ade20k_keys)])
def test_check_shows_them(data, keys, tmp_path, capsys):
    if data == "voc":
        words = ["DATASETS.VOC_FORMAT", str([["train", str(voc(tmp_path)), "train"]]), "DATASETS.TRAIN", "['train']"]
        words += ["DATASETS.TEST", "[]"]
    else:
        words = keys(ade20k(tmp_path))
    argv = ["check", "seg", "--config-file", f"seg/data/{data}.yaml", "--output-dir", tmp_path / "out", *SMALL]
    densedist(*argv, *words)
    printed = capsys.readouterr().out
    assert f"20x30 ({2 if data == 'voc' else 3})" in printed
    assert ("tv monitor" if data == "voc" else "crt screen") in printed
    assert (tmp_path / "out" / f"data_{data}.png").is_file()


def rename(root, old, new, split="train"):
    """Label files of a split, in another folder or of another kind."""
    target = root / new.partition("_")[0] / split / "town"
    target.mkdir(parents=True, exist_ok=True)
    for file in sorted((root / old.partition("_")[0] / split / "town").iterdir()):
        shutil.move(file, target / file.name.replace(old, new))
    if not any((root / old.partition("_")[0] / split / "town").iterdir()):
        shutil.rmtree(root / old.partition("_")[0] / split)


def cityscapes(root, *more):
    keys = ["DATASETS.ROOT", str(root), "DATASETS.TRAIN", "['train']", "DATASETS.TEST", "[]"]
    return read_config("seg/data/cityscapes.yaml", [*keys, *more])


def test_coarse_labels_of_a_split_that_has_no_others(tmp_path):
    """leftImg8bit/train_extra and gtCoarse/train_extra, beside the fine ones of train; gtCoarse has train, too."""
    write_tree(tmp_path, "train", ids=(7,))
    write_tree(tmp_path, "train_extra", ids=(8,))
    rename(tmp_path, "gtFine_labelIds", "gtCoarse_labelIds", "train_extra")
    shutil.copytree(tmp_path / "gtCoarse" / "train_extra", tmp_path / "gtCoarse" / "train")
    cfg = cityscapes(tmp_path, "DATASETS.TRAIN", "['train', 'train_extra']")
    check_data(cfg)
    read = Reader(Classes.of(cfg), "RGB")
    assert [int(read(frame)["sem_seg"].unique()) for frame in training_frames(cfg)] == [0, 0, 1, 1]
    next((tmp_path / "gtCoarse/train_extra/town").iterdir()).unlink()
    with pytest.raises(UserError, match=r"has no label .*gtCoarse/train_extra/town/.*_gtCoarse_labelIds\.png"):
        training_frames(cfg)


def test_train_ids_of_cityscapes(tmp_path):
    write_tree(tmp_path, ids=(0, 18, 255))
    rename(tmp_path, "gtFine_labelIds", "gtFine_labelTrainIds")
    cfg = cityscapes(tmp_path, "DATASETS.LABELS", "labelTrainIds")
    check_data(cfg)
    read = Reader(Classes.of(cfg), "RGB")
    for frame in training_frames(cfg):
        assert np.array_equal(read(frame)["sem_seg"], cv2.imread(frame["label"], cv2.IMREAD_UNCHANGED))
    with pytest.raises(UserError, match=r"has no label .*_gtFine_labelIds\.png"):
        check_data(cityscapes(tmp_path))
    # A copy of the data set has them, too; and labels that `densedist label` wrote are labelIds.
    prepare(tmp_path, tmp_path / "prepared")
    write_tree(tmp_path / "written", ids=(33,))
    split = str(tmp_path / "written" / "train")
    both = cityscapes(
        tmp_path / "prepared", "DATASETS.LABELS", "labelTrainIds", "DATASETS.TRAIN", str(["train[:1]", split])
    )
    seen = [read(frame)["sem_seg"] for frame in training_frames(both)]
    assert np.array_equal(seen[0], read(training_frames(cfg)[0])["sem_seg"])
    assert set(seen[1].unique().tolist()) == {18}


def test_train_ids_beyond_the_classes(tmp_path, capsys):
    write_tree(tmp_path, ids=(0, 19, 33))
    rename(tmp_path, "gtFine_labelIds", "gtFine_labelTrainIds")
    cfg = cityscapes(tmp_path, "DATASETS.LABELS", "labelTrainIds")
    with pytest.raises(UserError) as error:
        check_data(cfg)
    assert str(error.value).startswith("DATASETS.TRAIN: 2 of 2 images cannot be used, first ")
    assert "holds trainIds [19, 33]: want 0 to 18, in the order of DATASETS.CLASSES, and 255" in str(error.value)
    text = complaint(capsys, "check", "seg", "--config-file", "seg/data/cityscapes.yaml", "DATASETS.LABELS", "trainIds")
    assert text == "DATASETS.LABELS is trainIds: want labelIds or labelTrainIds"
