"""An image that one COCO file, or several, list more than once is one image with the annotations of all."""

import json
import os

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from PIL import Image
from pycocotools import mask as coco_mask

from densedist.common.errors import UserError
from densedist.det import checks
from densedist.det.data import as_coco, registering
from densedist.det.data.coco import image_file, read_coco
from densedist.det.data.registering import register_declared
from helpers.coco import CLASSES
from helpers.tiny import STUDENT, config

BOXES = [[1, 2, 10, 9], [20, 5, 8, 8], [30, 30, 6, 7]]


def listed(*names):
    """A COCO file that lists each image with one object."""
    images = [{"id": 5 + n, "file_name": name, "height": 48, "width": 64} for n, name in enumerate(names)]
    annotations = [
        {"id": 70 - n, "image_id": 5 + n, "category_id": n, "bbox": BOXES[n]} for n, name in enumerate(names)
    ]
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES)]
    return {"images": images, "annotations": annotations, "categories": categories}


def write(folder, content, name="a.json"):
    (folder / name).write_text(json.dumps(content))
    return str(folder / name)


def found(coco):
    return [(a["id"], a["image_id"], a["category_id"], a["bbox"]) for a in coco.annotations]


@pytest.mark.parametrize("names", [("a.png", "b.png", "a.png"), ("s/a.png", "b.png", "./s//a.png")])
def test_an_image_that_is_listed_twice_is_one(tmp_path, caplog, names):
    coco = read_coco(write(tmp_path, listed(*names)))
    assert [(i["id"], i["file_name"]) for i in coco.images] == [(5, names[0]), (6, names[1])]
    assert found(coco) == [(1, 5, 0, BOXES[0]), (2, 6, 1, BOXES[1]), (3, 5, 2, BOXES[2])]
    assert coco.duplicates == 1
    assert "a.json: 1 images are listed several times: each is used once, with all its annotations\n" in caplog.text


def test_an_object_that_two_listings_have_is_one(tmp_path, caplog):
    content = listed("a.png", "b.png", "a.png")
    content["annotations"][2] |= {"category_id": 0, "bbox": BOXES[0]}
    content["annotations"].append(content["annotations"][1] | {"id": 1})  # twice in one listing: as it is
    assert found(read_coco(write(tmp_path, content))) == [(1, 5, 0, BOXES[0]), (2, 6, 1, BOXES[1]), (3, 6, 1, BOXES[1])]
    assert "with all its annotations, without 1 that are the same" in caplog.text


def test_listings_of_another_size(tmp_path):
    content = listed("a.png", "b.png", "a.png")
    content["images"][2]["width"] = 65
    with pytest.raises(UserError, match=r"a\.json: a\.png is listed twice, with 64x48 and 65x48 pixels: correct one"):
        read_coco(write(tmp_path, content))


def test_files_that_share_images_share_objects(tmp_path):
    """The same file twice has each object once; run lengths and the lack of annotations stay."""
    content = listed("a.png", "b.png")
    bits = np.asfortranarray(np.eye(48, 64, dtype=np.uint8))
    counts = [int(n) for n in np.diff(np.flatnonzero(np.diff(bits.ravel("F"), prepend=2, append=2)))]
    content["annotations"][0]["segmentation"] = {"size": [48, 64], "counts": [0, *counts]}
    one = write(tmp_path, content)
    coco = read_coco(as_coco.of_files([one, one], str(tmp_path))[0])
    assert [a["bbox"] for a in coco.annotations] == BOXES[:2]
    assert (coco_mask.decode(coco.annotations[0]["segmentation"]) == bits).all()
    del content["annotations"]
    bare = [write(tmp_path, content, name) for name in ("b.json", "c.json")]
    assert not read_coco(as_coco.of_files(bare, str(tmp_path))[0]).has_labels


def test_what_a_script_has_registered_is_not_joined(tmp_path):
    """Detectron2 reads it, and takes each listing for an image: objects of the others are background there."""
    file = write(tmp_path, listed("a.png", "b.png", "a.png"))
    register_coco_instances("by_script", {}, file, str(tmp_path))
    try:
        with pytest.raises(UserError) as refused:
            checks.check_data(config(STUDENT, "DATASETS.TRAIN", "('by_script',)"), "TRAIN")
    finally:
        DatasetCatalog.remove("by_script")
        MetadataCatalog.remove("by_script")
    assert str(refused.value) == (
        f"DATASETS.TRAIN: data set by_script: {file} lists 1 images more than once, so that the objects of one listing "
        "are background in another: name it in DATASETS.COCO_FORMAT, where they are joined"
    )


@pytest.mark.parametrize(
    ("written", "there"),
    [
        ("s\\a 1.png", "s/a 1.png"),
        ("s/a%201.png", "s/a 1.png"),
        ("s\\a%201.png", "s/a 1.png"),
        ("a%20b.png", "a%20b.png"),  # its own name
        ("é ü.PNG", "é ü.PNG"),
        ("s\\gone.png", "s\\gone.png"),
    ],
)
def test_names_of_files(tmp_path, written, there):
    for name in ("s/a 1.png", "a%20b.png", "a b.png", "é ü.PNG"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (64, 48)).save(tmp_path / name)
    assert image_file(str(tmp_path), written) == os.path.join(tmp_path, there)
    entry = ["names", write(tmp_path, listed(written)), str(tmp_path)]
    cfg = config(STUDENT, "DATASETS.COCO_FORMAT", str([entry]), "DATASETS.TRAIN", "('names',)")
    register_declared(cfg)
    assert [d["file_name"] for d in DatasetCatalog.get("names")] == [os.path.join(tmp_path, there)]
    if "gone" in written:
        with pytest.raises(UserError, match=r"first .*s\\gone\.png does not exist"):
            checks.check_data(cfg, "TRAIN")
    else:
        checks.check_data(cfg, "TRAIN")
    assert registering.ground_truth("names").images[0]["file_name"] == written
    DatasetCatalog.remove("names")
    MetadataCatalog.remove("names")
