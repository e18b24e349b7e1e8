"""Data that cannot be learned from is refused before training, in one line with exit code 2."""

import json
import math

import pytest
from detectron2.data import DatasetCatalog

from densedist.common.randomness import RunPosition
from densedist.det import checks
from densedist.det.data import boxes, registering
from densedist.det.data.registering import register_declared
from densedist.det.loader import training_batches
from helpers.coco import CLASSES, change, coco, without
from helpers.tiny import STUDENT, TEACHER, config

BOXES = "DATASETS.TRAIN: data set data_0: 1 boxes of data_0/a.json are not finite, of no area or outside of their image"
REMEDY = "; correct them, or set DATASETS.DROP_BAD_BOXES to True to train without them"
EMPTY = (
    "DATASETS.TRAIN: data set data_0: data_0/a.json has nothing to learn from: add annotations of objects (iscrowd 0)"
)


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("{]", "data_0/a.json cannot be read as JSON: "),
        ("[]", "data_0/a.json is not a COCO JSON file: want an object with images, categories, annotations"),
        (coco() | {"images": 3}, "data_0/a.json is not a COCO JSON file: want a list of images"),
        (coco() | {"annotations": [7]}, "data_0/a.json: number 0 of annotations is 7, not an object"),
        (without("images", 1, "width"), "data_0/a.json: number 1 of images has no width"),
        (without("annotations", 1, "bbox"), "data_0/a.json: number 1 of annotations has no bbox"),
        (change("images", 0, height="48"), "data_0/a.json: image 0: height and width are not whole numbers above 0"),
        (change("images", 0, file_name=3), "data_0/a.json: image 0: file_name is 3: want text"),
        (change("annotations", 0, bbox=[1, 2]), "data_0/a.json: annotation 10: bbox is [1, 2]: want [x, y, w, h]"),
        (
            change("annotations", 0, image_id=[]),
            "data_0/a.json: number 0 of annotations has a list or an object for",
        ),
        (
            coco() | {"images": [], "annotations": []},
            "DATASETS.TRAIN: data set data_0 is empty: data_0/a.json names",
        ),
        (change("images", 1, id=0), "data_0/a.json: ids of images are given twice, first of 1: 0; make them unique"),
        (change("annotations", 1, id=10), "data_0/a.json: ids of annotations are given twice, first of 1: 10; make"),
        (change("categories", 1, id=5), "data_0/a.json: ids of categories are given twice, first of 1: 5; make them"),
        (
            change("categories", 1, name="5"),
            "data_0/a.json: names of categories are given twice, first of 1: '5';",
        ),
        (
            change("annotations", 1, image_id=7),
            "data_0/a.json: the image_id of 1 annotations is not among the images, first annotation 11 with 7: add "
            "it, or remove them",
        ),
        (
            change("annotations", 0, category_id=12),
            "data_0/a.json: the category_id of 1 annotations is not among the categories, first annotation 10 with "
            "12: add it, or remove them",
        ),
        (
            change("categories", 1, name="5 "),
            "data_0/a.json: names of categories are given twice, first of 1: '5'; make",
        ),
        (change("annotations", 0, ignore=1), 'data_0/a.json: 1 annotations have "ignore", first annotation 10, which'),
        (change("annotations", 1, bbox=[5, 5, 0, 9]), f"{BOXES}, first annotation 11 with [5, 5, 0, 9]{REMEDY}"),
        (change("annotations", 1, bbox=[64.0, 5, 9, 9]), f"{BOXES}, first annotation 11 with [64.0, 5, 9, 9]{REMEDY}"),
        (change("annotations", 1, bbox=[-9, 5, 9, 9]), f"{BOXES}, first annotation 11 with [-9, 5, 9, 9]{REMEDY}"),
        (change("annotations", 1, bbox=[math.nan, 5, 9, 9]), f"{BOXES}, first annotation 11 with [nan, 5, 9, 9]"),
        (change("annotations", 1, bbox=[5, 5, math.inf, 9]), f"{BOXES}, first annotation 11 with [5, 5, inf, 9]"),
        (coco() | {"annotations": []}, EMPTY),
        (
            {key: value for key, value in coco().items() if key != "annotations"},
            "DATASETS.TRAIN: data set data_0: data_0/a.json has no annotations: name it in DATASETS.UNLABELED",
        ),
        (change("images", 0, width=math.inf), "data_0/a.json: image 0: height and width are not whole numbers above 0"),
        (change("annotations", 0, bbox=[10**400, 5, 9, 9]), "data_0/a.json: annotation 10: bbox is [1000"),
        (change("annotations", 0, bbox=None), "data_0/a.json: annotation 10: bbox is None: want [x, y, w, h]"),
        (
            change("annotations", 0, iscrowd=1, bbox=[math.nan, 5, 9, 9]),
            "data_0/a.json: annotation 10: iscrowd is 1, but bbox is [nan, 5, 9, 9]: want numbers of pixels",
        ),
        ("[" * 10**5, "data_0/a.json cannot be read as JSON: "),
    ],
)
def test_annotations_that_make_no_sense(message, data, content, wanted):
    assert message(*data(content)).startswith(wanted)


def test_only_crowds_are_nothing_to_learn_from(message, data):
    content = coco()
    for annotation in content["annotations"]:
        annotation |= {"iscrowd": 1, "bbox": [0, 0, 0, 0]}
    assert message(*data(content)) == EMPTY


def test_masks_that_are_missing(message, data):
    assert message(*data(coco()), file=TEACHER) == (
        "DATASETS.TRAIN: data set data_0: 2 annotations of data_0/a.json have no segmentation, first annotation 10; "
        "add them, or set MODEL.MASK_ON to False"
    )


def test_only_bad_boxes_are_nothing_to_learn_from(message, data):
    assert message(*data(coco([5, 5, 0, 0])), "DATASETS.DROP_BAD_BOXES", "True") == EMPTY


@pytest.mark.parametrize("side", ["TRAIN", "UNLABELED", "TEST"])
def test_missing_image(message, data, tmp_path, side):
    keys = data(coco(), side)
    (tmp_path / "data_0" / "1.png").unlink()
    assert message(*keys) == (
        f"DATASETS.{side}: data set data_0: 1 of 2 images cannot be used, first data_0/1.png does not exist; repair "
        "or remove them, or set DATALOADER.CHECK_FILES to False to train anyway"
    )


def test_image_of_another_size(message, data):
    assert "first data_0/0.png is 64x48 pixels, but 60x48 in the annotations" in message(
        *data(change("images", 0, width=60))
    )


def test_other_categories_in_training_and_test(message, data):
    train, test = coco(), coco()
    test["categories"] = [{"id": i, "name": name} for i, name in enumerate(reversed(CLASSES))]
    one, other = data(train), data(test, "TEST")
    entries = str(json.loads(one[1].replace("'", '"')) + json.loads(other[1].replace("'", '"')))
    assert message(*one, *other[4:], "DATASETS.COCO_FORMAT", entries) == (
        "DATASETS: category 0, by the order of ids, is 0 in data set data_0, 9 in data set data_1: give both the same "
        "categories with the same ids"
    )


@pytest.mark.parametrize(
    ("box", "bad"),
    [
        ([0, 0, 64, 48], False),
        ([-0.6, -0.6, 65.2, 49.2], False),  # sticks out by rounding
        ([60, 40, 30, 30], False),
        ([5, 5, 9, -1], True),
        ([5, 48, 9, 9], True),
    ],
)
def test_box_that_sticks_out_is_no_mistake(box, bad):
    assert boxes.is_bad(box, 48, 64) == bad


def test_bad_boxes_are_dropped_where_the_config_says_so(data):
    """The image that has no other box goes too, as Detectron2 does with images without objects."""
    cfg = config(STUDENT, *data(change("annotations", 1, bbox=[5, 5, 0, 9])), "DATASETS.DROP_BAD_BOXES", "True")
    register_declared(cfg)
    checks.check_data(cfg, "TRAIN")
    batches = iter(training_batches(cfg)(RunPosition(0)))
    samples = [sample for _ in range(2) for sample in next(batches)]
    assert {sample["image_id"] for sample in samples} == {0}
    assert all(len(sample["instances"]) == 1 for sample in samples)


def test_crowds_stay_when_bad_boxes_are_dropped(data):
    crowd = {"bbox": [0, 0, 0, 0], "iscrowd": 1}
    cfg = config(STUDENT, *data(change("annotations", 0, **crowd)))
    register_declared(cfg)
    dicts = DatasetCatalog.get("data_0")
    assert boxes.drop_bad_boxes(dicts) == dicts


def test_boxes_of_the_data_sets_that_detectron2_knows_are_only_counted(data, monkeypatch, caplog):
    """coco_2017_train has a few boxes of no area; stock configs work unchanged."""
    cfg = config(STUDENT, *data(change("annotations", 1, bbox=[5, 5, 0, 9])))
    register_declared(cfg)
    assert "coco_2017_train" in registering.BUILT_IN
    monkeypatch.setattr(registering, "BUILT_IN", {"data_0"})
    checks.check_data(cfg, "TRAIN")
    assert "1 boxes of" in caplog.text
    assert "1.png with [5.0, 5.0, 0.0, 9.0]" in caplog.text


def test_files_are_not_looked_at_where_the_config_says_so(data, tmp_path):
    keys = data(coco())
    (tmp_path / "data_0" / "1.png").unlink()
    cfg = config(STUDENT, *keys, "DATALOADER.CHECK_FILES", "False")
    register_declared(cfg)
    checks.check_data(cfg, "TRAIN")
