"""What looks like annotations and is not read says why, and what to do."""

import json

import pytest

from densedist.common.errors import UserError
from densedist.det.init.configs import first_configs
from densedist.det.init.finding import find
from helpers import folders


def why(folder):
    with pytest.raises(UserError) as error:
        find(folder)
    return str(error.value)


def test_labels_of_yolo_without_their_yaml(tmp_path):
    folders.yolo(tmp_path)
    (tmp_path / "data.yaml").unlink()
    assert "/labels/train/0.txt and 9 more look like YOLO's labels, but there is no data.yaml" in why(tmp_path)


def test_annotations_of_voc_next_to_their_images(tmp_path):
    folders.write_images(tmp_path / "train")
    (tmp_path / "train" / "0.xml").write_text("<annotation/>")
    assert "0.xml and 0 more look like VOC's annotations: want them in Annotations" in why(tmp_path)


def test_voc_without_lists(tmp_path):
    folders.voc_boxes(tmp_path, splits=("train",))
    (tmp_path / "ImageSets" / "Main" / "train.txt").unlink()
    assert "there is no ImageSets/Main/train.txt, which names the images to train on" in why(tmp_path)


def test_json_files_of_another_format(tmp_path):
    folders.write_images(tmp_path)
    (tmp_path / "0.json").write_text(json.dumps({"shapes": [], "imagePath": "0.jpg"}))
    assert "0.json and 0 more JSON files are not COCO's: export the labels as COCO or YOLO" in why(tmp_path)


def test_a_file_of_coco_without_its_images(tmp_path):
    images = folders.write_images(tmp_path / "images")
    folders.write_coco(tmp_path / "train.json", images, prefix="elsewhere/")
    assert f"train.json: there is no image elsewhere/0.jpg in {tmp_path}: put its images there" in why(tmp_path)


def test_names_with_folders_in_them_are_found_from_where_they_start(tmp_path):
    images = folders.write_images(tmp_path / "data" / "images" / "a")
    folders.write_coco(tmp_path / "labels" / "all.json", images, prefix="images/a/")
    (found,) = find(tmp_path).sets.values()
    assert found.where == (str(tmp_path / "labels" / "all.json"), str(tmp_path / "data"))
    assert set(found.files) == set(images)


def test_images_of_the_same_names_are_those_of_the_files_split(tmp_path):
    folders.coco(tmp_path)
    roots = {split: found.where[1] for split, found in find(tmp_path).sets.items()}
    assert roots == {"train": str(tmp_path / "train2017"), "val": str(tmp_path / "val2017")}


def test_a_second_file_of_one_split_is_named(tmp_path):
    folders.coco(tmp_path)
    first = tmp_path / "annotations" / "instances_train2017.json"
    other = tmp_path / "annotations" / "person_keypoints_train2017.json"
    other.write_text(first.read_text())
    found = find(tmp_path)
    assert found.sets["train"].where[0] == str(first)
    assert found.notes == [f"{other} is not taken, as {first} is of train, too: choose in base.yaml"]


def test_a_name_that_detectron2_has_is_not_taken(tmp_path):
    folders.voc_boxes(tmp_path / "voc_2007")
    text = first_configs(tmp_path / "voc_2007", tmp_path / "out").configs["base.yaml"]
    assert "TRAIN: [my_voc_2007_train]" in text


def test_anchors_lie_around_the_sizes_of_the_objects(tmp_path):
    text = first_configs(folders.coco(tmp_path), tmp_path / "out").configs["base.yaml"]
    # Objects of 20x16 pixels in images of 48, which are shown at 96: 36 pixels.
    assert "SIZES: [[24], [38], [60], [96]]" in text
