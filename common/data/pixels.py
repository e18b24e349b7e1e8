"""Read the pixels of an image file as Pillow does, by the fastest reader that agrees with it."""

from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageOps

from densedist.common.data.headers import Header, read_header
from densedist.common.errors import UserError

# What OpenCV reads pixel for pixel as Pillow does. It multiplies a TIFF's colors by its alpha, and has conversions of
# its own for CMYK, Lab, YCbCr and five bits a channel.
FORMATS = ("BMP", "DIB", "JPEG", "MPO", "PNG", "PPM", "WEBP")
MODES = ("1", "L", "LA", "P", "RGB", "RGBA")
MOST_PIXELS = 1 << 30  # that OpenCV reads


def read_pixels(path: str, channels: str, header: Header | None = None) -> np.ndarray:
    """Read an image (H, W, 3), uint8, turned as its EXIF mark says; transparent pixels keep their stored colors.

    Args:
        channels: their order, "RGB" or "BGR".
        header: the file's, where it is known.

    Raises:
        UserError: it cannot be read, or would not be read as it is meant.
    """
    try:
        header = header or read_header(path)
        if header.strange:
            raise UserError(f"{path} {header.strange}")
        if _is_plain(header):
            array = cv2.imread(path, cv2.IMREAD_COLOR_BGR if channels == "BGR" else cv2.IMREAD_COLOR_RGB)
            if array is not None:
                return array
        with Image.open(path) as image:
            rgb = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(f"{path} cannot be read as an image: {error}") from error
    return np.ascontiguousarray(rgb[..., ::-1]) if channels == "BGR" else rgb


def _is_plain(header: Header) -> bool:
    height, width = header.stored
    known = header.format in FORMATS and header.mode in MODES and header.bits != 5
    return known and height * width <= MOST_PIXELS


def has_transparent_pixels(path: str) -> bool:
    """Return whether any pixel of an image is not opaque, by its alpha channel, color or index.

    Raises:
        OSError, ValueError, SyntaxError: as Pillow for a damaged file.
    """
    with Image.open(path) as image:
        # Of a palette or a single color, which has no channel, Pillow makes one.
        with_alpha = image if "A" in image.getbands() else image.convert("RGBA")
        lowest: Any = with_alpha.getchannel("A").getextrema()[0]
    return lowest < 255
