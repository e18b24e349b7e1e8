"""Classes of masks: their numbers or colors, and their names from files that label tools write."""

import numpy as np
import pytest
from PIL import Image

from densedist.common.errors import UserError
from densedist.seg.init.classes import find_classes
from densedist.seg.init.finding import find
from densedist.seg.init.palette import FIRST
from helpers import folders

RED, GREEN, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 0)


def classes(root):
    found = find(root)
    return find_classes(root, [frame for frames in found.sets.values() for frame in frames])


def short(found):
    return [(entry["name"], entry["ids"], tuple(entry["color"])) for entry in found.classes]


def test_numbers_without_names_are_numbered_and_noted(tmp_path):
    found = classes(folders.masks(tmp_path, (0, 2, 255)))
    assert short(found) == [("class 0", [0], FIRST[0]), ("class 2", [2], FIRST[1])]
    assert found.ignored_ids == [255]
    assert found.note == (
        "the masks have the numbers 0, 2, and no file says what they mean: name the classes in base.yaml, and move a "
        'number that means "no label" from CLASSES to IGNORED_IDS'
    )


@pytest.mark.parametrize(
    ("file", "text"),
    [("classes.txt", "road\ncar\nvoid\n"), ("_classes.csv", "Pixel Value, Class\n0, road\n1, car\n2, void\n")],
)
def test_names_of_numbers(file, text, tmp_path):
    folders.masks(tmp_path, (0, 1, 2))
    (tmp_path / file).write_text(text)
    found = classes(tmp_path)
    assert [name for name, *_ in short(found)] == ["road", "car"]
    assert (found.ignored_ids, found.note) == ([2], "")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("labelmap.txt", "# label:color_rgb:parts:actions\nroad:255,0,0::\ncar:0,255,0::\nvoid:0,0,0::\n"),
        ("class_dict.csv", "name,r,g,b\nroad,255,0,0\ncar,0,255,0\nvoid,0,0,0\n"),
        ("label_colors.txt", "255 0 0\t\troad\n0 255 0\t\tcar\n0 0 0\t\tVoid\n"),
    ],
)
def test_names_of_colors(file, text, tmp_path):
    folders.masks(tmp_path, (RED, GREEN, BLACK))
    (tmp_path / file).write_text(text)
    found = classes(tmp_path)
    assert short(found) == [("road", [0], RED), ("car", [1], GREEN)]
    assert (found.ignored_colors, found.note) == ([[0, 0, 0]], "")


def test_colors_without_names(tmp_path):
    found = classes(folders.masks(tmp_path, (BLACK, RED)))
    assert short(found) == [("color 0 0 0", [0], BLACK), ("color 255 0 0", [1], RED)]
    assert found.note.startswith("the masks have the colors [0, 0, 0], [255, 0, 0], and no file says what they mean: ")


@pytest.mark.parametrize(
    ("values", "file", "text", "key"),
    [
        ((0, 1), "classes.txt", "road\nVoid area\n", "IGNORED_IDS"),
        ((RED, BLACK), "labelmap.txt", "road:255,0,0::\nVoid area:0,0,0::\n", "IGNORED_COLORS"),
    ],
)
def test_a_class_of_unlabeled_pixels_is_asked_about(values, file, text, key, tmp_path):
    folders.masks(tmp_path, values)
    (tmp_path / file).write_text(text)
    wanted = f"is Void area a class? If its pixels are unlabeled, move it from CLASSES to {key} in base.yaml"
    assert classes(tmp_path).note == wanted


def test_a_list_of_images_is_no_list_of_names(tmp_path):
    folders.masks(tmp_path, (0, 1))
    (tmp_path / "labels.txt").write_text("images/train/0.jpg\nimages/train/1.jpg\n")
    assert [name for name, *_ in short(classes(tmp_path))] == ["class 0", "class 1"]


def test_numbers_of_other_data_in_the_folders_of_camvid_are_not_taken_for_its_classes(tmp_path):
    for split in ("train", "val"):
        images = folders.write_images(tmp_path / split)
        folders.write_masks(images, tmp_path / f"{split}annot", (0, 3, 8))
    assert [name for name, *_ in short(classes(tmp_path))] == ["class 0", "class 3", "class 8"]


def test_photographs_are_no_masks(tmp_path):
    for file in folders.write_images(tmp_path / "images"):
        pixels = np.random.default_rng(0).integers(0, 256, (*folders.SIZE, 3), np.uint8)
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "masks" / f"{file.stem}.png")
    with pytest.raises(UserError, match="have more than 64 colors: want masks with one color or number for each class"):
        classes(tmp_path)


def test_a_single_class(tmp_path):
    folders.masks(tmp_path, (1,))
    with pytest.raises(UserError, match="all pixels of its masks are class 1: want two classes at least"):
        classes(tmp_path)
