"""Images of class numbers are read as the numbers that their author gave, however they are stored."""

import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from densedist.common.errors import UserError
from densedist.seg.data.label_images import read_label_ids

IDS = np.array([[0, 1, 2], [3, 1, 0]], np.uint8)


def palette(ids, bits=None):
    image = Image.fromarray(ids, "P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    return image, {"bits": bits} if bits else {}


@pytest.mark.parametrize("bits", [None, 8, 4, 2])
def test_of_a_palette_the_indices_count(tmp_path, bits):
    image, options = palette(IDS, bits)
    image.save(tmp_path / "a.png", **options)
    assert np.array_equal(read_label_ids(str(tmp_path / "a.png")), IDS)


def test_one_bit_is_0_and_1(tmp_path):
    Image.fromarray(IDS > 0).convert("1").save(tmp_path / "a.png")
    assert np.array_equal(read_label_ids(str(tmp_path / "a.png")), IDS > 0)


def gray_png(ids, bits):
    """A PNG of so few bits a pixel, which neither Pillow nor OpenCV writes."""
    digits = (ids[..., None] >> np.arange(bits)[::-1]) & 1
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in digits.reshape(len(ids), -1))
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", ids.shape[1], ids.shape[0], bits, 0, 0, 0, 0),
        b"IDAT": zlib.compress(rows),
        b"IEND": b"",
    }
    packed = (struct.pack(">I", len(x)) + k + x + struct.pack(">I", zlib.crc32(k + x)) for k, x in chunks.items())
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


@pytest.mark.parametrize("bits", [2, 4])
def test_few_bits_are_numbers_from_0_on(tmp_path, bits):
    """Which Pillow and OpenCV spread over 0 to 255."""
    (tmp_path / "a.png").write_bytes(gray_png(IDS, bits))
    assert cv2.imread(str(tmp_path / "a.png"), -1).max() == 3 * (255 // (2**bits - 1))
    assert np.array_equal(read_label_ids(str(tmp_path / "a.png")), IDS)


def test_16_bits_with_small_numbers(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), IDS.astype(np.uint16))
    seen = read_label_ids(str(tmp_path / "a.png"))
    assert seen.dtype == np.uint8
    assert np.array_equal(seen, IDS)


def test_8_bits_are_what_opencv_reads(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), IDS * 80)
    assert np.array_equal(read_label_ids(str(tmp_path / "a.png")), cv2.imread(str(tmp_path / "a.png"), -1))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (IDS.astype(np.uint16) * 1000, "holds labelIds from 0 to 3000: want 0 to 255"),
        (np.dstack([IDS] * 3), "has colors (RGB): want one channel, of labelIds: gray, or the indices of a palette"),
        (np.dstack([IDS] * 4), "has colors (RGBA): want one channel"),
        (IDS.astype(np.float32), "has numbers with a fraction: want whole ones, the labelIds"),
    ],
)
def test_what_is_no_label_is_named(tmp_path, image, message):
    file = tmp_path / ("a.tif" if image.dtype == np.float32 else "a.png")
    cv2.imwrite(str(file), image)
    with pytest.raises(UserError) as refused:
        read_label_ids(str(file))
    assert str(refused.value).startswith(f"{file} {message}")


def test_what_cannot_be_read_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"a.png cannot be read as an image"):
        read_label_ids(str(tmp_path / "a.png"))
