"""Folders of images and masks, and what looks like masks and is not read."""

import pytest

from densedist.common.errors import UserError
from densedist.seg.init.finding import find
from helpers import folders


def why(folder):
    with pytest.raises(UserError) as error:
        find(folder)
    return str(error.value)


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("images", "masks"),
        ("Images", "Labels"),
        ("photos", "gt"),
        ("data/img", "data/mask"),
        ("frames", "frames_masks"),
        ("images/town", "annotations/town"),
    ],
)
def test_masks_are_found_by_the_name_of_their_folder(images, masks, tmp_path):
    folders.write_masks(folders.write_images(tmp_path / images), tmp_path / masks, (0, 1))
    found = find(tmp_path)
    assert len(found.sets["train"]) == 5
    assert found.notes == []


def test_masks_next_to_their_images(tmp_path):
    folders.write_masks(folders.write_images(tmp_path / "photos"), tmp_path / "photos", (0, 1))
    place = tmp_path / "photos"
    assert why(tmp_path).endswith(
        f"{place} has images and masks in one folder: move the masks to a folder of their own, {place}_masks"
    )


def test_masks_with_another_ending_next_to_their_images(tmp_path):
    folders.write_masks(folders.write_images(tmp_path / "photos"), tmp_path / "photos", (0, 1), "{}_mask.png")
    assert "photos has images and masks NAME_mask in one folder: move the masks to" in why(tmp_path)


def test_masks_of_other_names_than_their_images(tmp_path):
    folders.write_masks(folders.write_images(tmp_path / "images"), tmp_path / "masks", (0, 1), "{}_mask.png")
    assert f"5 of 5 images have no mask of the same name in {tmp_path / 'masks'}, first" in why(tmp_path)


def test_no_image_at_all(tmp_path):
    assert f"{tmp_path} has no image: want files that end in" in why(tmp_path)


def test_images_alone(tmp_path):
    folders.write_images(tmp_path / "images")
    assert "want two folders, as images and masks, whose files have the same names" in why(tmp_path)
