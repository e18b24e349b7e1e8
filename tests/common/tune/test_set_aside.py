"""The part of the training data that densedist tune chooses by: no image of it is trained on."""

import pytest

from densedist.common.errors import UserError
from densedist.common.tune.data import Validation
from densedist.tasks import task_named
from helpers import scenes, tiny
from helpers.scenes import write_tree

SEG, DET = task_named("seg"), task_named("det")


def seg_config(root, train, *words):
    named = ["DATASETS.ROOT", str(root), "DATASETS.TRAIN", str(train), "DATASETS.IGNORED_IDS", "[]"]
    classes = ["DATASETS.CLASSES", str([{"name": str(i), "ids": [i], "color": [i, 0, 0]} for i in (7, 8, 0)])]
    classes += ["MODEL.CLASS_WEIGHTS", "[]"]
    return SEG.load_config(str(scenes.STUDENT), [*scenes.SMALL, *named, *classes, *words])


@pytest.mark.parametrize(
    ("train", "share", "kept", "aside"),
    [
        (["train[:10]"], 0.2, ["train[:8]"], ["train[8:10]"]),
        (["train"], 0.25, ["train[:9]"], ["train[9:12]"]),
        (["train[2:]"], 0.01, ["train[2:11]"], ["train[11:12]"]),
        (["{root}/train[3:7]"], 0.5, ["{root}/train[3:5]"], ["{root}/train[5:7]"]),
        (["train[:4]", "train[4:6]"], 0.5, ["train[:2]", "train[4:5]"], ["train[2:4]", "train[5:6]"]),
    ],
)
def test_slices_of_splits(tmp_path, train, share, kept, aside):
    root = write_tree(tmp_path, count=12)
    train, kept, aside = ([name.format(root=root) for name in names] for names in (train, kept, aside))
    cfg = seg_config(root, train)
    words = SEG.set_aside(cfg, share)
    assert words == ["DATASETS.TRAIN", str(kept), "DATASETS.TEST", str(aside)]
    parts = seg_config(root, train, *words)
    assert not SEG.images(parts, "TRAIN") & SEG.images(parts, "TEST")
    assert SEG.images(parts, "TRAIN") | SEG.images(parts, "TEST") == SEG.images(cfg, "TRAIN")


def test_splits_that_share_images_are_refused(tmp_path):
    root = write_tree(tmp_path, count=12)
    train = ["train[:8]", "train[6:]"]
    cfg = seg_config(root, train)
    with pytest.raises(UserError, match=r"--set-aside: training sees 2 of its images, first .*000006.*name data by"):
        Validation().overrides(SEG, cfg, lambda words: seg_config(root, train, *words))


def test_links_to_images_are_these_images(tmp_path):
    """As densedist label makes them: a teacher's labels of what is set aside would be trained on."""
    root = write_tree(tmp_path, count=12)
    for kind in ("leftImg8bit", "gtFine"):
        folder = root / kind / "written" / "town"
        folder.mkdir(parents=True)
        for file in (root / kind / "train" / "town").iterdir():
            (folder / file.name).symlink_to(file)
    for train, more in (
        (["train[:10]", "written"], []),
        (["train[:10]"], ["DATASETS.PSEUDO_LABELED", "['written']"]),
    ):
        cfg = seg_config(root, train, *more)
        with pytest.raises(UserError, match=r"--set-aside: training sees 2 of its images"):
            Validation().overrides(
                SEG, cfg, lambda words, train=train, more=more: seg_config(root, train, *more, *words)
            )


def test_one_image_cannot_be_parted(tmp_path):
    root = write_tree(tmp_path, count=12)
    with pytest.raises(UserError, match=r"--set-aside: 0.2 of the 1 images of train\[:1\] leaves none to train on"):
        SEG.set_aside(seg_config(root, ["train[:1]"]), 0.2)


@pytest.mark.parametrize(
    ("name", "kept", "aside"),
    [
        ("digits_train", "digits_train[:9]", "digits_train[9:12]"),
        ("digits_train[2:6]", "digits_train[2:5]", "digits_train[5:6]"),
    ],
)
def test_parts_of_coco_data(name, kept, aside):
    words = [*tiny.SMALL, "DATASETS.TRAIN", str((name,))]
    cfg = DET.load_config(str(tiny.STUDENT), words)
    added = DET.set_aside(cfg, 0.25)
    assert added == ["DATASETS.TRAIN", str([kept]), "DATASETS.TEST", str([aside])]
    parts = DET.load_config(str(tiny.STUDENT), [*words, *added])
    assert not DET.images(parts, "TRAIN") & DET.images(parts, "TEST")
    assert DET.images(parts, "TRAIN") | DET.images(parts, "TEST") == DET.images(cfg, "TRAIN")
    DET.check_data(parts)
    assert DET.is_scored(parts)
    assert parts.DATASETS.CLASSES == cfg.DATASETS.CLASSES


def test_data_in_another_form_are_refused():
    from detectron2.data import DatasetCatalog, MetadataCatalog

    DatasetCatalog.register("my_scenes", lambda: [])
    cfg = tiny.config(tiny.STUDENT, "DATASETS.TRAIN", "('my_scenes',)")
    try:
        with pytest.raises(
            UserError, match="--set-aside: data set my_scenes is not in COCO format: name data to choose"
        ):
            DET.set_aside(cfg, 0.2)
    finally:
        DatasetCatalog.remove("my_scenes")
        MetadataCatalog.remove("my_scenes")
