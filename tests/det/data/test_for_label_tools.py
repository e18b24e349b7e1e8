"""Labels for tools in which people correct them: what is written is read as what it was."""

import json
import shlex

import cv2
import numpy as np
import pytest

from densedist.common.errors import UserError
from densedist.det.data import voc, yolo
from densedist.det.data.coco import read_coco
from densedist.det.data.for_label_tools import write_voc, write_yolo
from densedist.det.datasets import check_datasets, images
from helpers.calling import densedist
from helpers.tiny import STUDENT, config

NAMES = ["cat", "no"]
BOXES = [(1, 1, [3.25, 4.5, 10.125, 20.0], 0), (1, 2, [0.0, 0.0, 64.0, 48.0], 1), (2, 2, [7.4, 1.1, 2.3, 4.9], 0)]


@pytest.fixture
def labels(tmp_path):
    """Of two images of one name in two folders, and one without an object."""
    images = []
    for number, place in enumerate(("a/x.png", "b/x.png", "b/empty.jpg"), 1):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / place), np.full((48, 64, 3), number, np.uint8))
        images.append({"id": number, "file_name": str(tmp_path / place), "height": 48, "width": 64})
    annotations = [
        {"id": n, "image_id": i, "category_id": c, "bbox": box, "area": box[2] * box[3], "iscrowd": crowd, "score": 0.5}
        for n, (i, c, box, crowd) in enumerate(BOXES, 1)
    ]
    categories = [{"id": number, "name": name} for number, name in enumerate(NAMES, 1)]
    (tmp_path / "labels").mkdir()
    content = {"images": images, "categories": categories, "annotations": annotations}
    (tmp_path / "labels" / "annotations.json").write_text(json.dumps(content))
    return tmp_path / "labels"


def read(file_and_folder):
    """(image's color, class, box, crowd) of each object."""
    file, folder = file_and_folder
    coco = read_coco(file)
    names = {category["id"]: category["name"] for category in coco.categories}
    colors = {i["id"]: int(cv2.imread(f"{folder}/{i['file_name']}")[0, 0, 0]) for i in coco.images}
    assert sorted(colors.values()) == [1, 2, 3]
    return sorted(
        (colors[a["image_id"]], names[a["category_id"]], [round(x, 3) for x in a["bbox"]], a["iscrowd"])
        for a in coco.annotations
    )


def test_voc(labels, tmp_path):
    assert write_voc(labels, tmp_path / "out") == "3 boxes in 3 images"
    expected = sorted((image, NAMES[c - 1], box, crowd) for image, c, box, crowd in BOXES)
    assert read(voc.as_coco(str(tmp_path / "out"), "train")) == expected


def test_yolo_has_no_crowds(labels, tmp_path):
    said = write_yolo(labels / "annotations.json", tmp_path / "out")
    assert said == "2 boxes in 3 images, without 1 crowds, which YOLO does not have"
    expected = sorted((image, NAMES[c - 1], box, crowd) for image, c, box, crowd in BOXES if not crowd)
    assert read(yolo.as_coco(str(tmp_path / "out" / "data.yaml"), "train")) == expected


@pytest.mark.parametrize("form", ["yolo", "voc"])
def test_the_command_says_how_to_train(form, labels, tmp_path, capsys):
    out = tmp_path / "my out"
    densedist("prepare", form, labels, "--output-dir", out)
    line = capsys.readouterr().out
    if form == "yolo":
        key = f"DATASETS.YOLO_FORMAT \"[['my out', '{out}/data.yaml', 'train']]\" DATASETS.TRAIN \"['my out']\""
        assert line.endswith(f"; train with {key}\n")
    words = shlex.split(line.partition("; train with ")[2])
    cfg = config(STUDENT, *words, "DATASETS.TEST", "()", "MODEL.ROI_HEADS.NUM_CLASSES", "2")
    assert check_datasets(cfg) == NAMES
    assert len(images(cfg, "TRAIN")) == 3


def test_what_is_refused(labels, tmp_path):
    with pytest.raises(
        UserError, match=r"there is no .*a/annotations.json: name a folder that densedist label det has"
    ):
        write_voc(tmp_path / "a", tmp_path / "out")
    with pytest.raises(UserError, match=r"--output-dir: .*labels has files: name an empty or new folder"):
        write_yolo(labels, labels)
