"""INPUT.FLIP_PAIRS in detection: objects and kept class logits of mirror images have their classes swapped."""

import json
import logging

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from densedist.common.errors import UserError
from densedist.common.randomness import seeded
from densedist.det.checks import check_data
from densedist.det.data.reading import Mapper
from densedist.det.data.registering import register_declared
from densedist.det.taps.found import with_classes_swapped
from helpers.tiny import STUDENT, config

CLASSES = ["left hand", "right hand", "ball"]
KEYS = ["MODEL.ROI_HEADS.NUM_CLASSES", "3", "DATASETS.TRAIN", "('hands',)", "DATASETS.TEST", "()"]
KEYS += ["INPUT.RANDOM_FLIP", "horizontal"]


@pytest.fixture
def hands(tmp_path):
    """An image of a left hand on the left and a ball on the right: overrides that train on it."""
    boxes = {0: [2.0, 4.0, 10.0, 20.0], 2: [40.0, 4.0, 12.0, 12.0]}
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 64, "height": 48}],
        "categories": [{"id": n, "name": name} for n, name in enumerate(CLASSES)],
        "annotations": [{"id": 1 + n, "image_id": 1, "category_id": n, "bbox": box} for n, box in boxes.items()],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    cv2.imwrite(str(tmp_path / "a.png"), np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8))
    yield [*KEYS, "DATASETS.COCO_FORMAT", f"[['hands', '{tmp_path / 'a.json'}', '{tmp_path}']]"]
    if "hands" in DatasetCatalog:
        DatasetCatalog.remove("hands")
        MetadataCatalog.remove("hands")


def classes_by_side(mapper, dataset_dict):
    """For plain and mirror images the classes, from left to right."""
    found = {}
    for seed in range(12):
        with seeded(seed):
            sample = mapper(dataset_dict)
        instances = sample["instances"]
        order = instances.gt_boxes.tensor[:, 0].argsort()
        ball_is_right = instances.gt_boxes.tensor[instances.gt_classes == 2, 0].item() > sample["image"].shape[2] / 2
        found[ball_is_right] = instances.gt_classes[order].tolist(), sample.get("class_order")
    return found


def test_objects_of_mirror_images(hands):
    cfg = config(STUDENT, *hands, "INPUT.FLIP_PAIRS", "[['left hand', 'right hand']]")
    register_declared(cfg)
    (of_image,) = DatasetCatalog.get("hands")
    assert classes_by_side(Mapper(cfg), of_image) == {True: ([0, 2], None), False: ([2, 1], [1, 0, 2])}
    assert [a["category_id"] for a in of_image["annotations"]] == [0, 2]
    bare = config(STUDENT, *hands)
    assert classes_by_side(Mapper(bare), of_image) == {True: ([0, 2], None), False: ([2, 0], None)}


def test_kept_logits_of_mirror_images():
    logits = torch.arange(20.0).view(5, 4)  # three classes and the background
    assert torch.equal(with_classes_swapped(logits, {}), logits)
    assert torch.equal(with_classes_swapped(logits, {"class_order": [1, 0, 2]}), logits[:, [1, 0, 2, 3]])


def test_sides_without_pairs_are_a_warning_and_wrong_pairs_are_refused(hands, caplog):
    cfg = config(STUDENT, *hands)
    register_declared(cfg)
    with caplog.at_level(logging.WARNING):
        check_data(cfg)
    assert "pair(s) of classes differ in left and right alone, first left hand and right hand: name them" in caplog.text
    with pytest.raises(UserError, match=r"^INPUT.FLIP_PAIRS: there is no class left foot: want names among left"):
        check_data(config(STUDENT, *hands, "INPUT.FLIP_PAIRS", "[['left foot', 'right hand']]"))
    upside_down = ["INPUT.FLIP_PAIRS", "[['left hand', 'right hand']]", "INPUT.RANDOM_FLIP", "vertical"]
    with pytest.raises(UserError, match=r"^INPUT.FLIP_PAIRS is for images mirrored left to right: set"):
        check_data(config(STUDENT, *hands, *upside_down))
