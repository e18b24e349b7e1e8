"""Masks whose palettes have the colors of the classes at other numbers, as image editors write them."""

import numpy as np
import pytest
from PIL import Image

from densedist.common.errors import UserError
from densedist.seg.checks import check_data
from helpers.scenes import STUDENT, config

COLORS = [[0, 0, 0], [128, 64, 128], [220, 40, 40], [40, 220, 40]]
NAMES = ["ground", "road", "roof", "tree"]
IDS = np.repeat(np.arange(4, dtype=np.uint8), 16).reshape(8, 8)


def keys(root, colors=COLORS):
    classes = [{"name": name, "ids": [n], "color": colors[n]} for n, name in enumerate(NAMES)]
    return [
        *("DATASETS.FOLDERS", f"[['mine', '{root / 'images'}', '{root / 'masks'}']]"),
        *("DATASETS.TRAIN", "['mine']", "DATASETS.TEST", "[]", "DATASETS.CLASSES", str(classes)),
        *("DATASETS.IGNORED_IDS", "[255]"),
    ]


def write(root, *masks):
    for folder in ("images", "masks"):
        (root / folder).mkdir()
    for number, mask in enumerate(masks):
        Image.new("RGB", mask.size).save(root / "images" / f"{number}.png")
        mask.save(root / "masks" / f"{number}.png")


def indexed(ids, colors):
    picture = Image.fromarray(ids, "P")
    picture.putpalette([value for color in colors for value in color])
    return picture


def edited(ids):
    """As Pillow saves colors with a palette of its own."""
    return Image.fromarray(np.array(COLORS, np.uint8)[ids]).convert("P", palette=Image.Palette.ADAPTIVE)


def test_an_edited_palette_is_refused(tmp_path):
    write(tmp_path, indexed(IDS, COLORS), edited(IDS))
    with pytest.raises(UserError) as refused:
        check_data(config(STUDENT, *keys(tmp_path)))
    text = str(refused.value)
    assert text.startswith(
        f"DATASETS.TRAIN: 1 masks, first {tmp_path / 'masks' / '1.png'}, have the colors of DATASETS.CLASSES at other "
        "indices of their palette (index "
    )
    assert text.endswith(
        "), because image editors renumber palettes: save them as RGB, or with the ids as indices; if the indices are "
        "right, give the classes the palette's colors"
    )


def test_so_it_is_where_each_mask_has_one_color(tmp_path):
    write(tmp_path, indexed(IDS[:2], COLORS), edited(np.full((8, 8), 3, np.uint8)))
    with pytest.raises(UserError, match=r"1\.png, have the colors of .* \(index 0 has the color of tree\)"):
        check_data(config(STUDENT, *keys(tmp_path)))


def test_numbers_beyond_the_classes_are_said_to_be_counted_anew_not_to_be_named(tmp_path):
    write(tmp_path, indexed(IDS + 4, [[1, 2, 3]] * 4 + COLORS[::-1]))
    with pytest.raises(UserError, match=r"\(index 4 has the color of tree\)"):
        check_data(config(STUDENT, *keys(tmp_path)))


@pytest.mark.parametrize(
    ("palette", "colors"),
    [
        (COLORS, COLORS),
        ([[n, n, n] for n in range(4)], COLORS),  # a ramp, which says nothing
        ([[9, 9, 9], [8, 8, 8], [7, 7, 7], [0, 0, 0]], COLORS),  # black by coincidence
        (COLORS[::-1], [[1, 2, 3]] * 4),  # colors that tell no class
    ],
)
def test_what_does_not_contradict_is_read_by_index(palette, colors, tmp_path):
    write(tmp_path, indexed(IDS, palette))
    check_data(config(STUDENT, *keys(tmp_path, colors)))


def test_a_set_of_background_alone_contradicts_by_one_color_and_is_read(tmp_path):
    write(tmp_path, indexed(np.zeros((8, 8), np.uint8), [[128, 64, 128]]))
    check_data(config(STUDENT, *keys(tmp_path)))
