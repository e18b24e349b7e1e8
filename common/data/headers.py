"""What an image file says of itself before it is decoded: its size, how its pixels are stored, how it was held."""

import os
from dataclasses import dataclass

from PIL import Image, TiffImagePlugin

Size = tuple[int, int]  # height, width

ORIENTATION = 0x0112  # EXIF tag; from 5 on the image is turned by a quarter
BITS_PER_SAMPLE = 258  # TIFF tag
PNG_BITS = 24  # where a PNG says it
# How a whole file of this format ends.
ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
# Of a channel, for Pillow's modes that have more than 8; those of several numbers that it cuts are seen in the file.
DEPTHS = {"I": 32, "F": 32, "I;16": 16, "I;16B": 16, "I;16L": 16, "I;16N": 16}


@dataclass(frozen=True)
class Header:
    """
    Args:
        format: Pillow's word for the kind of file, e.g. "PNG".
        mode: Pillow's word for the pixels: "L" gray, "P" indices of a palette, "1" black and white, "RGB", …
        bits: of a channel.
        stored: height and width as they lie in the file.
        orientation: EXIF's, 1 to 8; 1 = as it lies.
        ends: whether the file ends as files of its format do.
    """

    format: str
    mode: str
    bits: int
    stored: Size
    orientation: int
    ends: bool

    @property
    def size(self) -> Size:
        """As Detectron2 and OpenCV read it."""
        return self.stored[::-1] if self.orientation >= 5 else self.stored

    @property
    def too_deep(self) -> str | None:
        """What is more than 8 bits, in words: readers cut or scale it, each in its own way."""
        if self.mode == "F":
            return "numbers with a fraction"
        return f"{self.bits} bits a channel" if self.bits > 8 else None


def read_header(path: str) -> Header:
    """
    Raises:
        OSError, ValueError, SyntaxError, Image.DecompressionBombError: as Pillow for a file that is missing, damaged
            or no image.
    """
    with open(path, "rb") as file:
        file.seek(max(os.path.getsize(path) - 4096, 0))
        tail = file.read()
    with Image.open(path) as image:
        kind = image.format or ""
        stored = image.height, image.width
        # Zeros behind the end are padding.
        ends = tail.rstrip(b"\0").endswith(ENDS.get(kind, b""))
        return Header(kind, image.mode, _bits(image, path), stored, _orientation(image, tail), ends)


def _bits(image: Image.Image, path: str) -> int:
    if image.format == "PNG":
        with open(path, "rb") as file:
            return file.read(PNG_BITS + 1)[PNG_BITS]
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return max(image.tag_v2.get(BITS_PER_SAMPLE, (1,)))
    return DEPTHS.get(image.mode, 8)


def _orientation(image: Image.Image, tail: bytes) -> int:
    # To ask Pillow may decode the whole image: not without a reason.
    said = {"exif", "xmp", "XML:com.adobe.xmp"} & set(image.info) or b"eXIf" in tail
    if not said and not isinstance(image, TiffImagePlugin.TiffImageFile):
        return 1
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except Exception:  # Detectron2 and OpenCV take an image with unreadable EXIF data as it is
        return 1
    return found if found in range(1, 9) else 1
