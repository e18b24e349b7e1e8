"""Data sets that a user's function gives are what Detectron2 takes, or refused in one line before training."""

import copy
import math
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from PIL import Image
from pycocotools import mask as coco_mask

from densedist.common.errors import UserError
from densedist.det import checks
from densedist.det.loader import training_batches
from densedist.det.models import read_config
from helpers.coco import CLASSES
from helpers.tiny import STUDENT, TEACHER, config

NAME = "of_dicts"
HERE = f"DATASETS.TRAIN: data set {NAME}"
DICTS = "want Detectron2's dataset dicts"


@pytest.fixture
def dicts(tmp_path):
    """Two images of 64x48 pixels with an object each, registered by a function."""
    made = []
    for number in range(2):
        file = str(tmp_path / f"{number}.png")
        Image.new("RGB", (64, 48)).save(file)
        objects = [{"bbox": [5, 5, 25, 25], "bbox_mode": BoxMode.XYXY_ABS, "category_id": number, "iscrowd": 0}]
        made.append({"file_name": file, "height": 48, "width": 64, "image_id": number, "annotations": objects})
    DatasetCatalog.register(NAME, lambda: copy.deepcopy(made))
    MetadataCatalog.get(NAME).set(thing_classes=list(CLASSES))
    yield made
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def check(side="TRAIN", *keys, file=STUDENT):
    cfg = config(file, "DATASETS.TRAIN", "()", "DATASETS.TEST", "()", f"DATASETS.{side}", str((NAME,)), *keys)
    checks.check_data(cfg, side)
    return cfg


def complaint(*given, **more):
    with pytest.raises(UserError) as refused:
        check(*given, **more)
    return str(refused.value)


def test_labels_of_a_teacher_are_judged_as_those_of_training(dicts):
    for d in dicts:
        del d["annotations"]
    here = HERE.replace("TRAIN", "PSEUDO_LABELED")
    assert complaint("PSEUDO_LABELED") == f"{here}: {NAME} has no annotations: name it in DATASETS.UNLABELED"
    with pytest.raises(UserError, match=r"DATASETS.PSEUDO_LABELED: MODEL.LOAD_PROPOSALS reads proposals for DATA"):
        read_config(str(STUDENT), ["DATASETS.PSEUDO_LABELED", "['x']", "MODEL.LOAD_PROPOSALS", "True"])


def test_categories_that_count_from_one(dicts):
    for d in dicts:
        d["annotations"][0]["category_id"] = 10
    assert complaint() == (
        f"{HERE}: the category_id of 2 annotations is none of the 10 classes, first 10 of image "
        f"{dicts[0]['file_name']}: count them from 0 to 9"
    )


@pytest.mark.parametrize("value", [-1, 10, 1.5, math.nan, "1", None])
def test_categories_that_are_none(dicts, value):
    dicts[1]["annotations"][0]["category_id"] = value
    assert f"is none of the 10 classes, first {value!r} of image" in complaint()
    dicts[1]["annotations"][0]["iscrowd"] = 1  # which Detectron2 leaves out
    check()


WRONG = [
    ("image", {"file_name": None}, "dict number 1 has no file_name: {dicts}, with file_name, height and width of each"),
    ("image", {"width": None}, "dict number 1 has no width: {dicts}, with file_name, height and width of each image"),
    ("image", {"file_name": 3}, "dict number 1: file_name is 3: want text"),
    ("image", {"height": "48"}, "dict number 1: height and width are '48' and 64: want whole numbers above 0"),
    ("image", {"annotations": {}}, "image {file}: its annotations are not a list of dicts: {dicts}"),
    ("object", {"bbox": None}, "an annotation of image {file} has no bbox: {dicts}, with bbox, bbox_mode and"),
    ("object", {"bbox_mode": None}, "an annotation of image {file} has no bbox_mode: {dicts}"),
    ("object", {"category_id": None}, "an annotation of image {file} has no category_id: {dicts}"),
    ("object", {"bbox": "box"}, "an annotation of image {file}: bbox is 'box', bbox_mode <BoxMode.XYXY_ABS: 0>: want"),
    ("object", {"bbox": [5, 5, 20]}, "an annotation of image {file}: bbox is [5, 5, 20], of another length than"),
    ("object", {"bbox_mode": 9}, "an annotation of image {file}: bbox is [5, 5, 25, 25], bbox_mode 9: want [x, y, w,"),
    ("object", {"bbox_mode": BoxMode.XYWH_REL}, "an annotation of image {file}: bbox_mode is XYWH_REL, which"),
    ("object", {"bbox": [5, 5, math.nan, 9]}, "1 boxes of of_dicts are not finite, of no area or outside of their"),
]


@pytest.mark.parametrize(("part", "values", "wanted"), WRONG)
def test_what_detectron2_does_not_take(dicts, part, values, wanted):
    changed = dicts[1] if part == "image" else dicts[1]["annotations"][0]
    for key, value in values.items():
        if value is None:
            del changed[key]
        else:
            changed[key] = value
    wanted = wanted.format(file=dicts[1].get("file_name"), dicts=DICTS)
    assert complaint().startswith(f"{HERE}: {wanted}")


def test_what_is_as_good(dicts):
    """Numbers of NumPy, boxes as arrays, modes as numbers, ids that training does not ask for."""
    for d in dicts:
        d |= {"height": np.int64(48), "width": np.int32(64)}
        del d["image_id"]
        d["annotations"][0] |= {"bbox": np.array([5.0, 5.0, 25.0, 25.0]), "bbox_mode": 0, "category_id": np.int64(3)}
        del d["annotations"][0]["iscrowd"]
    check()


@pytest.mark.parametrize(
    ("ids", "wanted"),
    [
        ((1, 1), "the image_id 1 is given to several images: make them unique"),
        ((1, None), "image_id of an image is None: want a whole number or text"),
        ((1, np.int64(2)), "image_id of an image is np.int64(2): want a whole number or text"),
    ],
)
def test_ids_by_which_detections_are_scored(dicts, ids, wanted):
    for d, i in zip(dicts, ids, strict=True):
        d["image_id"] = i
    assert complaint("TEST") == f"DATASETS.TEST: data set {NAME}: {wanted}"
    check("TRAIN")


def test_functions_that_fail(dicts):
    DatasetCatalog.remove(NAME)
    DatasetCatalog.register(NAME, lambda: Path("/nowhere/a.json").read_text())
    assert complaint() == (
        f"{HERE} cannot be loaded: FileNotFoundError: [Errno 2] No such file or directory: '/nowhere/a.json'"
    )
    DatasetCatalog.remove(NAME)
    DatasetCatalog.register(NAME, lambda: ["a.png"])
    assert complaint() == f"{HERE} holds str: {DICTS}"


BITS = np.asfortranarray(np.eye(48, 64, dtype=np.uint8))


@pytest.mark.parametrize(
    ("segmentation", "wanted"),
    [
        ([np.array([5, 5, 25, 5, 25, 25.0])], None),
        (coco_mask.encode(BITS), None),
        (BITS, "is an array: want polygons, or run lengths as pycocotools encodes them"),
        ({"size": [48, 64], "counts": [3072]}, "has run lengths that are not compressed: want those of pycocotools'"),
        ([[5, 5, 25, 5, 25, 25], [1, 2]], "has a polygon that has not three points"),
        ({"size": [48, 64], "counts": b"0"}, "has damaged run lengths"),
    ],
)
def test_masks(dicts, segmentation, wanted):
    for d in dicts:
        d["annotations"][0]["segmentation"] = [[5, 5, 25, 5, 25, 25]]
    dicts[1]["annotations"][0]["segmentation"] = segmentation
    if wanted is None:
        check("TRAIN", file=TEACHER)
    else:
        said = f"cannot be read, first annotation of image {dicts[1]['file_name']}, which {wanted}"
        assert said in complaint("TRAIN", file=TEACHER)
    check("TRAIN")


def test_annotations_of_images_without_labels_are_not_looked_at(dicts):
    """They may be of any classes."""
    dicts[0]["annotations"][0]["category_id"] = 99
    dicts[1]["annotations"] = "none"
    cfg = check("UNLABELED")
    training_batches(cfg)
