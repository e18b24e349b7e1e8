"""Damaged files are named before training; whatever Detectron2 and OpenCV read is let through."""

import re

import cv2
import numpy as np
import pytest
import tifffile
from detectron2.data.detection_utils import read_image
from PIL import Image

from densedist.common.data.images import DamagedError, check_file, check_image, check_images, evenly
from densedist.common.errors import UserError

SIZE = (40, 56)
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8))


@pytest.fixture(params=["jpg", "png"])
def image(request, tmp_path):
    file = tmp_path / f"image.{request.param}"
    NOISE.save(file)
    return file


def test_whole_image_gives_its_size(image):
    assert check_image(str(image)).size == check_image(str(image), SIZE).size == SIZE


@pytest.mark.parametrize("ending", [b"", b"\0" * 300, b"\n", b"an appended video"])
def test_what_follows_the_end_does_not_matter(image, ending):
    image.write_bytes(image.read_bytes() + ending)
    assert check_image(str(image)).size == SIZE


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_exif_orientation_is_followed_as_detectron2_follows_it(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    NOISE.save(tmp_path / f"a.{kind}", exif=exif)
    seen = read_image(str(tmp_path / f"a.{kind}")).shape[:2]
    header = check_image(str(tmp_path / f"a.{kind}"), seen)
    assert (header.size, header.orientation) == (seen, orientation)


def test_unusual_end_is_decided_by_decoding(tmp_path):
    """Without its last chunk this PNG still holds every pixel."""
    NOISE.save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:-12])
    assert check_image(str(tmp_path / "a.png")).size == read_image(str(tmp_path / "a.png")).shape[:2]


def cut(file):
    file.write_bytes(file.read_bytes()[:900])


def overwrite(file):
    whole = bytearray(file.read_bytes())
    whole[len(whole) // 2] ^= 255
    file.write_bytes(whole)


def test_damage_within_a_png(tmp_path):
    """Detectron2 reads it, too, but as black."""
    NOISE.save(tmp_path / "a.png")
    overwrite(tmp_path / "a.png")
    with pytest.raises(DamagedError, match=re.escape(f"{tmp_path / 'a.png'} is damaged: ")):
        check_image(str(tmp_path / "a.png"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.unlink(), "does not exist"),
        (lambda file: file.write_bytes(b""), "is empty"),
        (lambda file: file.write_bytes(b"<html>404</html>"), "is not an image"),
        (cut, "is damaged: "),
        (lambda file: NOISE.resize((20, 30)).save(file), "is 20x30 pixels, but 56x40 in the annotations"),
    ],
)
def test_damage_is_named(image, damage, message):
    damage(image)
    with pytest.raises(DamagedError, match=f"^{re.escape(f'{image} {message}')}"):
        check_image(str(image), SIZE, "in the annotations")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.bmp", {}),
        ("a.tif", {}),
        ("a.tif", {"compression": "tiff_lzw"}),
        ("a.tif", {"compression": "jpeg"}),
        ("a.webp", {"lossless": True}),
        ("a.ppm", {}),
        ("a.gif", {}),
    ],
)
def test_a_file_that_is_cut_is_seen_before_training(tmp_path, name, options):
    file = tmp_path / name
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 41, 3), dtype=np.uint8)).save(file, **options)
    assert check_file(str(file)).size == (30, 41)
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    with pytest.raises(DamagedError, match=f"{name} (is damaged: |is not an image|cannot be read: )"):
        check_file(str(file))


def test_pages_that_are_cut_off(tmp_path):
    """Pillow ends in a TypeError about the tags of the second one."""
    file = tmp_path / "a.tif"
    tifffile.imwrite(
        file, np.random.default_rng(0).integers(0, 9, (2, 30, 41), dtype=np.uint8), photometric="minisblack"
    )
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    with pytest.raises(DamagedError, match=r"a.tif is damaged: a page of it cannot be found"):
        check_file(str(file))


def test_all_are_counted_and_the_first_is_named(tmp_path):
    paths = [str(tmp_path / f"{i}.png") for i in range(70)]
    for path in paths[:68]:
        NOISE.save(path)
    with pytest.raises(UserError) as error:
        check_images(paths, check_image, "DATASETS.TRAIN")
    assert str(error.value) == (
        f"DATASETS.TRAIN: 2 of 70 images cannot be used, first {paths[68]} does not exist; repair or remove "
        "them, or set DATALOADER.CHECK_FILES to False to train anyway"
    )


def deep(values, mode=None):
    return Image.fromarray(np.array(values).reshape(2, 3), mode)


@pytest.mark.parametrize(
    ("name", "image", "depth"),
    [
        ("a.png", deep(np.arange(6, dtype=np.uint16) * 999), "16 bits a channel"),
        ("a.tif", deep(np.arange(6, dtype=np.uint16) * 999), "16 bits a channel"),
        ("a.tif", deep(np.arange(6, dtype=np.int32) * 999), "32 bits a channel"),
        ("a.tif", deep(np.arange(6, dtype=np.float32)), "numbers with a fraction"),
    ],
)
def test_more_than_8_bits_are_refused(tmp_path, name, image, depth):
    """Detectron2 takes all above 255 for white, OpenCV scales by the range of 16 bits."""
    image.save(tmp_path / name)
    with pytest.raises(DamagedError) as refused:
        check_image(str(tmp_path / name))
    assert str(refused.value) == (
        f"{tmp_path / name} has {depth}: want 8 bits, as only you know which values are black and white: convert it"
    )


def test_deep_colors_are_refused(tmp_path):
    """Which Pillow shows as if they had 8 bits."""
    cv2.imwrite(str(tmp_path / "a.png"), np.full((4, 6, 3), 999, np.uint16))
    with pytest.raises(DamagedError, match="has 16 bits a channel"):
        check_image(str(tmp_path / "a.png"))


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK"])
def test_8_bits_and_less_are_read_as_they_are_meant(tmp_path, mode):
    file = str(tmp_path / ("a.tif" if mode == "CMYK" else "a.png"))
    NOISE.convert(mode).save(file)
    assert check_image(file, SIZE).size == SIZE
    wanted = NOISE.convert(mode).convert("RGB")
    assert np.array_equal(read_image(file, "RGB"), wanted)


def test_orientation_at_the_end_of_a_png_is_seen(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3
    NOISE.save(tmp_path / "a.png", exif=exif)
    whole = (tmp_path / "a.png").read_bytes()
    start = whole.index(b"eXIf") - 4
    length = 12 + int.from_bytes(whole[start : start + 4])
    chunk, rest = whole[start : start + length], whole[:start] + whole[start + length :]
    (tmp_path / "b.png").write_bytes(rest[:-12] + chunk + rest[-12:])
    assert check_image(str(tmp_path / "b.png")).orientation == 3


def test_some_images_of_many_are_spread_over_them():
    assert evenly(range(100), 4) == [12, 37, 62, 87]
    assert evenly(range(3), 1) == [1]
    assert evenly("abc", 5) == ["a", "b", "c"]
