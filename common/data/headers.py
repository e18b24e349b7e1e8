"""Headers of image files, read without decoding: size, how pixels are stored, orientation."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

from PIL import Image, TiffImagePlugin, UnidentifiedImageError

Size = tuple[int, int]  # height, width

# Pillow's own limit, 179 million pixels, protects servers from strangers. Here a user names the files, and
# orthophotos and slides have more; what the memory does not hold is refused by Header.strange.
Image.MAX_IMAGE_PIXELS = None

ORIENTATION = 0x0112  # EXIF tag; from 5 on the image is turned by a quarter
# TIFF's tags.
SUBFILE, OLD_SUBFILE, WIDTH, HEIGHT, BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLES = 254, 255, 256, 257, 258, 262, 277
SAMPLE_FORMAT = 339
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
SIGNED = 2  # of SAMPLE_FORMAT
PNG_BITS, BMP_BITS = 24, 28  # where these say it, a BMP those of a pixel
# TIFF's tags of where pieces of the image begin, and how long they are: of strips, of tiles.
PIECES = ((273, 279), (324, 325))
# How a whole file of this format ends; of others see _is_whole.
ENDS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
# Of a channel, for Pillow's modes that have more than 8; those of several numbers that it cuts are seen in the file.
DEPTHS = {"I": 32, "F": 32, "I;16": 16, "I;16B": 16, "I;16L": 16, "I;16N": 16}
# Formats that keep every number; of TIFF and WebP each file says it. The others mix neighbors, as JPEG does.
LOSSLESS = ("BMP", "DIB", "GIF", "PNG", "PPM")
LOSSLESS_TIFF = (
    *("raw", "tiff_ccitt", "group3", "group4", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "tiff_raw_16"),
    *("packbits", "tiff_thunderscan", "lzma", "zstd"),
)
# Formats whose further images are pages or frames; a camera's MPO has a preview there.
PAGED = ("AVIF", "GIF", "PNG", "TIFF", "WEBP")
# Decoded images are copied once or twice on their way.
SHARE = 4


class UnknownTiffError(ValueError):
    """A TIFF that Pillow does not read; the message says what it holds."""


@dataclass(frozen=True)
class Header:
    """What a header says.

    Args:
        format: Pillow's word for the kind of file, e.g. "PNG".
        mode: Pillow's word for the pixels: "L" gray, "P" indices of a palette, "1" black and white, "RGB", …
        bits: number of bits of a channel.
        stored: height and width as they lie in the file.
        orientation: EXIF's, 1 to 8; 1 = as it lies.
        ends: whether the file ends as files of its format do, and not before.
        pages: images in the file; smaller copies of it and masks in a TIFF are none.
        more_bands: numbers of a pixel that the mode does not show.
        white: what the largest number of a channel means in a PPM file; 255 elsewhere.
        lossless: whether the format keeps numbers as they are.
        zero_is_white: whether a reader turns numbers around.
        signed: whether there may be numbers below 0 in 8 bits.
        alpha: whether pixels may be transparent.
    """

    format: str
    mode: str
    bits: int
    stored: Size
    orientation: int
    ends: bool
    pages: int = 1
    more_bands: int = 0
    white: int = 255
    lossless: bool = True
    zero_is_white: bool = False
    signed: bool = False
    alpha: bool = False

    @property
    def size(self) -> Size:
        """Return the size as Detectron2 and OpenCV read it."""
        return self.stored[::-1] if self.orientation >= 5 else self.stored

    @property
    def too_deep(self) -> str | None:
        """Return in words what has more than 8 bits, which readers cut or scale differently; None if nothing has."""
        if self.mode == "F":
            return "numbers with a fraction"
        return f"{self.bits} bits a channel" if self.bits > 8 else None

    @property
    def strange(self) -> str | None:
        """Return in words what readers take only a part of, or differently; None for a plain image."""
        height, width = self.stored
        if (size := 3 * height * width) > (whole := memory()) / SHARE:
            of = f"{size / 1e9:.1f} GB, for {whole / 1e9:.1f} GB of memory"
            return f"is {width}x{height} pixels, {of}: cut it into tiles"
        if self.pages > 1:
            word = "pages" if self.format == "TIFF" else "frames"
            return f"has {self.pages} {word}, of which only the first would be read: save each as a file of its own"
        if self.more_bands:
            bands = Image.getmodebands(self.mode)
            return (
                f"has {bands + self.more_bands} bands, of which only {bands} would be read: save those that are meant, "
                "as gray or RGB"
            )
        if self.format == "TIFF" and self.orientation != 1:
            return (
                f"is a TIFF that is shown turned (orientation {self.orientation}), which readers turn differently: "
                "turn the pixels, or take the mark out"
            )
        if self.signed:
            return "has numbers with a sign, of 8 bits, whose lower half would be read as 128 to 255: save it without"
        if self.white != 255 and self.bits <= 8:
            return f"has {self.white} for white, which readers take differently: save it with 255, or as PNG"
        return None


def read_header(path: str) -> Header:
    """Read the header of an image file.

    Raises:
        OSError, ValueError, SyntaxError: as Pillow for a file that is missing, damaged or no image.
        UnknownTiffError: a TIFF that Pillow does not read.
    """
    with open(path, "rb") as file:
        length = file.seek(0, os.SEEK_END)
        file.seek(max(length - 4096, 0))
        tail = file.read()
        file.seek(0)
        try:
            image = Image.open(file)
        except UnidentifiedImageError as error:
            raise UnknownTiffError(words) if (words := _unknown_tiff(path)) else _unidentified(path) from error
        with image:
            return _header(image, path, tail, length)


def _header(image: Image.Image, path: str, tail: bytes, length: int) -> Header:
    """Return what an opened image says, and the end of its file of so many bytes."""
    kind, tags = image.format or "", _tags(image)
    # Zeros behind the end are padding.
    ends = tail.rstrip(b"\0").endswith(ENDS[kind]) if kind in ENDS else _is_whole(image, path, length)
    white = _white(image)
    orientation = _orientation(image, tail)
    return Header(
        kind,
        image.mode,
        16 if white > 255 else _bits(image, path),
        # Pillow has turned a TIFF's size.
        (image.width, image.height) if kind == "TIFF" and orientation >= 5 else (image.height, image.width),
        orientation,
        ends,
        more_bands=max(tags.get(SAMPLES, 1) - Image.getmodebands(image.mode), 0) if tags else 0,
        white=white,
        lossless=_is_lossless(image, path),
        zero_is_white=tags.get(PHOTOMETRIC) == 0 if tags else (kind, image.mode) == ("PPM", "1"),
        signed=SIGNED in tags.get(SAMPLE_FORMAT, ()) and image.mode == "L" if tags else False,
        alpha=image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info,
        pages=_whole_pages(image),  # last, as it goes to another page
    )


def _unidentified(path: str) -> UnidentifiedImageError:
    """Return the error that Pillow has for a path; of an open file it would name the object."""
    return UnidentifiedImageError(f"cannot identify image file {path!r}")


@cache
def memory() -> float:
    """Return the bytes that this machine has for one process, or that its container may use."""
    whole = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    try:
        return min(whole, float(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # there is none, or no limit
        return whole


def _is_whole(image: Any, path: str, length: int) -> bool:
    """Return whether a file of so many bytes is as long as its header says; False where that cannot be known."""
    if tags := _tags(image):
        ends = [sum(pair) for pair in PIECES for pair in zip(*(tags.get(tag, ()) for tag in pair), strict=False)]
        return bool(ends) and max(ends) <= length
    if image.format == "WEBP":
        with open(path, "rb") as file:
            return int.from_bytes(file.read(8)[4:], "little") + 8 <= length
    if image.format == "BMP" and image.tile and image.tile[0].codec_name == "raw":
        return image.tile[0].offset + image.tile[0].args[1] * image.height <= length
    return False


def _tags(image: Image.Image) -> Mapping:
    return image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}


def _bits(image: Image.Image, path: str) -> int:
    if image.format == "PNG":
        with open(path, "rb") as file:
            return file.read(PNG_BITS + 1)[PNG_BITS]
    if image.format in ("BMP", "DIB"):
        with open(path, "rb") as file:
            return 5 if file.read(BMP_BITS + 2)[BMP_BITS:] == b"\x10\0" else DEPTHS.get(image.mode, 8)
    if tags := _tags(image):
        return max(tags.get(BITS_PER_SAMPLE, (1,)))
    return DEPTHS.get(image.mode, 8)


def _white(image: Any) -> int:
    """Return what a PPM file calls white, from where Pillow keeps it for its decoder."""
    if image.format != "PPM" or image.mode not in ("L", "RGB", "I"):
        return 255
    arguments = image.tile[0].args
    return arguments[1] if isinstance(arguments, tuple) else 255


def _whole_pages(image: Image.Image) -> int:
    try:
        return _pages(image)
    except (EOFError, KeyError, TypeError) as error:  # what Pillow makes of tags that are not there
        raise ValueError("a page of it cannot be found") from error


def _pages(image: Image.Image) -> int:
    count: int = getattr(image, "n_frames", 1) if image.format in PAGED else 1
    if count == 1 or not isinstance(image, TiffImagePlugin.TiffImageFile):
        return count
    whole = 0
    for number in range(count):
        image.seek(number)
        # A smaller copy, or a mask of what is transparent.
        part = image.tag_v2.get(SUBFILE, 0) & 0b101 or image.tag_v2.get(OLD_SUBFILE) == 2
        whole += not part
    return max(whole, 1)


def _is_lossless(image: Image.Image, path: str) -> bool:
    if image.format == "TIFF":
        return image.info.get("compression") in LOSSLESS_TIFF
    if image.format == "WEBP":
        with open(path, "rb") as file:
            return _is_lossless_webp(file)
    return image.format in LOSSLESS


def _is_lossless_webp(file: IO[bytes]) -> bool:
    file.seek(12)
    while len(head := file.read(8)) == 8:
        if head[:4] in (b"VP8 ", b"VP8L"):
            return head[:4] == b"VP8L"
        length = int.from_bytes(head[4:], "little")
        file.seek(length + length % 2, os.SEEK_CUR)
    return False


def _unknown_tiff(path: str) -> str | None:
    """Return in words what a TIFF holds that Pillow does not read; None for any other file."""
    with open(path, "rb") as file:
        start = file.read(8)
        if not start.startswith(TIFF_STARTS):
            return None
        try:
            tags = TiffImagePlugin.ImageFileDirectory_v2(
                start + (file.read(8) if start[2:4].strip(b"\0") == b"+" else b"")
            )
            file.seek(tags.next)
            tags.load(file)
            if not {WIDTH, HEIGHT} <= set(tags):
                return None
            bits, bands = max(tags.get(BITS_PER_SAMPLE, (1,))), tags.get(SAMPLES, 1)
            kind = {2: "whole numbers with a sign", 3: "numbers with a fraction"}.get(
                max(tags.get(SAMPLE_FORMAT, (1,))), "whole numbers"
            )
        except Exception:  # as far as it is a TIFF at all
            return None
    return f"it is a TIFF of {bands} band(s), {kind} of {bits} bits: want 8 bits, gray or RGB"


def _orientation(image: Image.Image, tail: bytes) -> int:
    if tags := _tags(image):
        found = tags.get(ORIENTATION, 1)
        return found if found in range(1, 9) else 1
    # To ask Pillow may decode the whole image: not without a reason.
    said = {"exif", "xmp", "XML:com.adobe.xmp"} & set(image.info) or b"eXIf" in tail
    if not said:
        return 1
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except Exception:  # Detectron2 and OpenCV take an image with unreadable EXIF data as it is
        return 1
    return found if found in range(1, 9) else 1
