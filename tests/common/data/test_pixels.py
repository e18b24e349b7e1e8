"""Images and masks by foreign writers: what a reference reader gives, or refused in one line."""

import struct

import cv2
import imageio.v3 as imageio
import numpy as np
import pytest
import tifffile
from detectron2.data.detection_utils import read_image
from PIL import Image

from densedist.common.data import headers
from densedist.common.data.headers import read_header
from densedist.common.data.images import DamagedError, check_image, warn_of_transparency
from densedist.common.data.pixels import read_pixels
from densedist.common.errors import UserError
from densedist.seg.data.label_images import read_label_ids

RGB = cv2.resize(np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8), (40, 32))
GRAY = RGB[..., 0].copy()
IDS = np.random.default_rng(1).integers(0, 4, (32, 40)).astype(np.uint8)
CLEAR = GRAY.copy()  # from opaque to transparent


def pillow(pixels, mode=None, **options):
    picture = Image.fromarray(pixels) if mode is None else Image.fromarray(pixels).convert(mode)
    return lambda file: picture.save(file, **options)


def tiff(pixels, **options):
    return lambda file: tifffile.imwrite(file, pixels, **options)


def netpbm(head, body):
    return lambda file: file.write_bytes(head + body)


# Of 4x4 pixels: sizes and offsets, one plane of 16 bits with masks, and where these have red, green and blue.
BMP_565 = (102, 0, 70, 56, 4, 4, 1, 16, 3, 32, 0, 0, 0, 0, 63488, 2016, 31, 0)

# What OpenCV, which segmentation reads most files by, and Detectron2 read the same.
IMAGES = {
    "rgb.png": pillow(RGB),
    "gray.png": pillow(GRAY),
    "gray_alpha.png": pillow(np.dstack([GRAY, CLEAR])),
    "rgba.png": pillow(np.dstack([RGB, CLEAR])),
    "palette.png": lambda file: Image.fromarray(RGB).quantize(16).save(file, bits=4, transparency=3),
    "key.png": pillow(RGB, transparency=tuple(RGB[0, 0].tolist())),
    "bit.png": pillow(GRAY > 128),
    "gamma.png": pillow(RGB, gamma=0.1),
    "imageio.png": lambda file: imageio.imwrite(file, RGB),
    "rgb.jpg": pillow(RGB, quality=90),
    "gray.jpg": lambda file: imageio.imwrite(file, GRAY),
    "cmyk.jpg": pillow(RGB, "CMYK", quality=95),
    "rgb.webp": pillow(RGB),
    "rgba.webp": pillow(np.dstack([RGB, CLEAR]), lossless=True),
    "rgb.bmp": lambda file: cv2.imwrite(str(file), RGB),
    "rgba.bmp": pillow(np.dstack([RGB, CLEAR])),
    "565.bmp": netpbm(b"BM" + struct.pack(f"<{'I' * 6}HH{'I' * 10}", *BMP_565), RGB.tobytes()[:32]),
    "palette.gif": lambda file: Image.fromarray(RGB).quantize(16).save(file),
    "rgb.ppm": lambda file: cv2.imwrite(str(file), RGB),
    "rgb.tif": tiff(RGB, photometric="rgb"),
    "white_is_0.tif": tiff(GRAY, photometric="miniswhite"),
    "planes.tif": tiff(RGB.transpose(2, 0, 1).copy(), photometric="rgb", planarconfig="separate"),
    "big_endian.tif": tiff(RGB, photometric="rgb", byteorder=">"),
    "bigtiff.tif": tiff(RGB, photometric="rgb", bigtiff=True),
    "tiles.tif": tiff(RGB, photometric="rgb", tile=(16, 16)),
    "deflate.tif": tiff(RGB, photometric="rgb", compression="deflate", predictor=True),
    "alpha.tif": tiff(np.dstack([RGB, CLEAR]), photometric="rgb", extrasamples=["unassalpha"]),
    "multiplied.tif": tiff(np.dstack([RGB, CLEAR]), photometric="rgb", extrasamples=["assocalpha"]),
    "cmyk.tif": pillow(RGB, "CMYK"),
    "lab.tif": pillow(RGB, "LAB"),
    "ycbcr.tif": pillow(RGB, "YCbCr"),
    "jpeg.tif": pillow(RGB, compression="jpeg"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_both_tasks_read_the_pixels_that_pillow_reads(name, tmp_path):
    IMAGES[name](tmp_path / name)
    file = str(tmp_path / name)
    header = check_image(file)
    wanted = np.asarray(Image.open(file).convert("RGB"))
    assert np.array_equal(read_pixels(file, "RGB"), wanted)
    assert np.array_equal(read_pixels(file, "BGR"), wanted[..., ::-1])
    assert np.array_equal(read_image(file, "RGB"), wanted)
    assert header.size == wanted.shape[:2]


@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_both_tasks_turn_an_image_as_its_mark_says(kind, mode, tmp_path):
    if mode == "CMYK" and kind != "jpg":
        return
    exif = Image.Exif()
    exif[headers.ORIENTATION] = 6
    Image.fromarray(RGB).convert(mode).save(tmp_path / f"a.{kind}", exif=exif)
    assert check_image(file := str(tmp_path / f"a.{kind}")).size == (40, 32)
    assert np.array_equal(read_pixels(file, "RGB"), read_image(file, "RGB"))


TURNED = "is a TIFF that is shown turned (orientation 3), which readers turn differently: turn the pixels, or take"
FIRST = "of which only the first would be read: save each as a file of its own"
NO_SIZE = b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 258, 3, 1, 8) + bytes(4)
REFUSED = {
    "damaged.tif": (netpbm(NO_SIZE, b""), "is not an image"),
    "pages.tif": (tiff(np.stack([RGB] * 5), photometric="rgb"), f"has 5 pages, {FIRST}"),
    "frames.png": (pillow(RGB, save_all=True, append_images=[Image.fromarray(255 - RGB)]), f"has 2 frames, {FIRST}"),
    "frames.webp": (pillow(RGB, save_all=True, append_images=[Image.fromarray(255 - RGB)]), f"has 2 frames, {FIRST}"),
    "infrared.tif": (
        tiff(np.dstack([RGB, GRAY]), photometric="rgb", extrasamples=["unspecified"]),
        "has 4 bands, of which only 3 would be read: save those that are meant, as gray or RGB",
    ),
    "two.tif": (
        tiff(np.dstack([GRAY, GRAY]), photometric="minisblack", planarconfig="contig"),
        "has 2 bands, of which only 1 would be read",
    ),
    "five.tif": (
        tiff(np.dstack([RGB, GRAY, GRAY]), photometric="minisblack", planarconfig="contig"),
        "cannot be read: it is a TIFF of 5 band(s), whole numbers of 8 bits: want 8 bits, gray or RGB",
    ),
    "half.tif": (tiff(GRAY.astype(np.float16)), "cannot be read: it is a TIFF of 1 band(s), numbers with a fraction"),
    "long.tif": (
        tiff(GRAY.astype(np.int64)),
        "cannot be read: it is a TIFF of 1 band(s), whole numbers with a sign",
    ),
    "big.tif": (tiff(GRAY.astype(np.int64), bigtiff=True), "cannot be read: it is a TIFF of 1 band(s), whole numbers"),
    "signed.tif": (tiff((GRAY // 2).astype(np.int8)), "has numbers with a sign, of 8 bits"),
    "turned.tif": (tiff(RGB, photometric="rgb", extratags=[(274, "H", 1, 3, True)]), TURNED),
    "deep.ppm": (netpbm(b"P6\n2 1\n65535\n", bytes(12)), "has 16 bits a channel: want 8 bits"),
    "dark.ppm": (netpbm(b"P5\n4 1\n20\n", bytes([0, 1, 10, 20])), "has 20 for white, which readers take differently"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_read_in_part_or_otherwise_is_refused(name, tmp_path):
    write, message = REFUSED[name]
    write(tmp_path / name)
    with pytest.raises(DamagedError) as refused:
        check_image(str(tmp_path / name))
    assert str(refused.value).startswith(f"{tmp_path / name} {message}")


def test_overviews_and_previews_are_no_pages(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(RGB, photometric="rgb", subfiletype=0)
        file.write(RGB[::2, ::2], photometric="rgb", subfiletype=1)
    Image.fromarray(RGB).save(tmp_path / "b.jpg", format="MPO", save_all=True, append_images=[Image.fromarray(RGB)])
    for name in ("a.tif", "b.jpg"):
        assert check_image(str(tmp_path / name)).size == (32, 40)
        assert read_pixels(str(tmp_path / name), "RGB").shape == (32, 40, 3)


def test_transparent_pixels_are_a_warning_opaque_ones_are_not(tmp_path, caplog):
    seen = {}
    for name, alpha in (("clear.png", CLEAR), ("opaque.png", np.full_like(CLEAR, 255))):
        pillow(np.dstack([RGB, alpha]))(tmp_path / name)
        seen[name] = check_image(str(tmp_path / name))
    warn_of_transparency(seen, "DATASETS.TRAIN")
    assert caplog.messages == [
        "DATASETS.TRAIN: 1 of 2 images have transparent pixels, first clear.png: the colors that are stored there "
        "are read"
    ]


def test_a_large_image_is_none_that_is_damaged_until_the_memory_is_too_small(tmp_path, monkeypatch):
    """Its header says 400 million pixels, above Pillow's own limit; it is padding that follows."""
    gray = b"P5\n20000 20000\n255\n"
    with open(tmp_path / "a.ppm", "wb") as file:
        file.write(gray)
        file.truncate(len(gray) + 400_000_000)  # takes no room on the disk
    assert check_image(str(tmp_path / "a.ppm")).size == (20000, 20000)
    monkeypatch.setattr(headers, "memory", lambda: 4e9)
    with pytest.raises(DamagedError) as refused:
        check_image(str(tmp_path / "a.ppm"))
    assert str(refused.value) == (
        f"{tmp_path / 'a.ppm'} is 20000x20000 pixels, 1.2 GB, for 4.0 GB of memory: cut it into tiles"
    )


def palette(ids, **options):
    picture = Image.fromarray(ids, "P")
    picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    return lambda file: picture.save(file, **options)


MASKS = {
    "gray.png": pillow(IDS),
    "palette.png": palette(IDS, bits=2),
    "clear_palette.png": palette(IDS, transparency=0),
    "palette.bmp": palette(IDS),
    "palette.tif": palette(IDS),
    "palette.gif": palette(IDS),
    "gamma.png": pillow(IDS, gamma=0.1, transparency=2),
    "bits.bmp": pillow(IDS > 1, "1"),
    "bits.tif": pillow(IDS > 1, "1", compression="group4"),
    "imageio.png": lambda file: imageio.imwrite(file, IDS),
    "opencv.bmp": lambda file: cv2.imwrite(str(file), IDS),
    "opencv.ppm": netpbm(b"P5\n40 32\n255\n", IDS.tobytes()),
    "8.tif": tiff(IDS, compression="deflate", predictor=True),
    "16.png": lambda file: cv2.imwrite(str(file), IDS.astype(np.uint16)),
    "16_big_endian.tif": tiff(IDS.astype(np.uint16), byteorder=">"),
    "16_signed.tif": tiff(IDS.astype(np.int16)),
    "32.tif": tiff(IDS.astype(np.uint32), tile=(16, 16)),
}


@pytest.mark.parametrize("name", MASKS)
def test_a_masks_numbers_are_its_authors(name, tmp_path):
    MASKS[name](tmp_path / name)
    assert np.array_equal(read_label_ids(str(tmp_path / name)), IDS > 1 if name.startswith("bits") else IDS)


NO_MASKS = {
    "lossy.jpg": (pillow(IDS, quality=95), "is a JPEG file with loss, which changes labelIds and colors: save masks"),
    "jpeg_named.png": (pillow(IDS, format="JPEG"), "is a JPEG file with loss"),
    "lossy.webp": (pillow(np.dstack([IDS] * 3)), "is a WEBP file with loss"),
    "lossy.jp2": (pillow(IDS), "is a JPEG2000 file with loss"),
    "lossy.avif": (pillow(np.dstack([IDS] * 3)), "is a AVIF file with loss"),
    "jpeg.tif": (pillow(IDS, compression="jpeg"), "is a TIFF compressed with loss"),
    "white_is_0.tif": (tiff(IDS, photometric="miniswhite"), "has 0 for white, which readers turn around"),
    "bits.tif": (tiff(IDS > 1, photometric="miniswhite"), "has 0 for white"),
    "bits.ppm": (netpbm(b"P4\n8 1\n", b"\xa0"), "has 0 for white"),
    "dark.ppm": (netpbm(b"P5\n4 1\n20\n", bytes([0, 1, 10, 20])), "has 20 for white"),
    "pages.tif": (tiff(np.stack([IDS] * 3), photometric="minisblack"), f"has 3 pages, {FIRST}"),
    "bands.tif": (
        tiff(np.dstack([IDS, IDS]), photometric="minisblack", planarconfig="contig"),
        "has 2 bands, of which only 1",
    ),
    "signed.tif": (tiff(IDS.astype(np.int8) - 1), "has numbers with a sign"),
    "deep.png": (pillow(IDS.astype(np.uint16) * 1000), "holds labelIds from 0 to 3000: want 0 to 255"),
    "below_0.tif": (tiff(IDS.astype(np.int32) - 1), "holds labelIds from -1 to 2: want 0 to 255"),
    "float.tif": (tiff(IDS.astype(np.float32)), "has numbers with a fraction"),
    "alpha.png": (pillow(np.dstack([IDS, CLEAR])), "has an alpha channel (LA)"),
    "turned.png": (None, "is shown turned (EXIF orientation 3): turn the pixels, or take the mark out"),
}


@pytest.mark.parametrize("name", NO_MASKS)
def test_a_mask_whose_numbers_are_not_its_authors_is_refused(name, tmp_path):
    write, message = NO_MASKS[name]
    if write is None:
        exif = Image.Exif()
        exif[headers.ORIENTATION] = 3
        write = pillow(IDS, exif=exif)
    write(tmp_path / name)
    with pytest.raises(UserError) as refused:
        read_label_ids(str(tmp_path / name))
    assert str(refused.value).startswith(f"{tmp_path / name} {message}")


def test_lossless_webp_is_told_from_lossy_behind_other_chunks(tmp_path):
    exif = Image.Exif()
    exif[headers.ORIENTATION] = 1
    for lossless in (True, False):
        Image.fromarray(RGB).save(tmp_path / "a.webp", lossless=lossless, exif=exif, icc_profile=b"icc")
        assert (tmp_path / "a.webp").read_bytes()[12:16] == b"VP8X"
        assert read_header(str(tmp_path / "a.webp")).lossless is lossless


def test_a_tiff_of_four_bits_is_numbers_from_0_on(tmp_path):
    """Which no writer here writes: one strip of 4 bits a pixel."""
    packed = (IDS[:, ::2] << 4 | IDS[:, 1::2]).tobytes()
    strip = 8 + 2 + 12 * 9 + 4
    tags = [(256, 40), (257, 32), (258, 4), (259, 1), (262, 1), (273, strip), (277, 1), (278, 32)]
    tags.append((279, len(packed)))
    entries = [struct.pack("<HHII", tag, 4 if tag == 273 else 3, 1, value) for tag, value in tags]
    (tmp_path / "a.tif").write_bytes(b"II*\0\x08\0\0\0" + struct.pack("<H", 9) + b"".join(entries) + bytes(4) + packed)
    assert np.array_equal(read_label_ids(str(tmp_path / "a.tif")), IDS)
