"""Label images whose pixels are the colors of classes."""

import numpy as np
from PIL import Image

from densedist.common.data.headers import Header
from densedist.common.errors import UserError
from densedist.seg.labels import IGNORE, Classes


def has_colors(header: Header) -> bool:
    """Whether an image of that header has three or four channels of 8 bits; a palette's colors mean nothing."""
    return header.mode in ("RGB", "RGBA")


def read_colors(path: str, classes: Classes) -> np.ndarray:
    """trainIds (H, W), uint8, by the colors of the classes; those that are ignored give IGNORE.

    Raises:
        UserError: it cannot be read, a color without a meaning, or one that two classes have.
    """
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"), dtype=np.int32)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} cannot be read as an image: {error}") from error
    given = np.concatenate([classes.colors, classes.ignored_colors]).astype(np.int32)
    meant = np.array([*range(len(classes)), *[IGNORE] * len(classes.ignored_colors)], np.uint8)
    codes, first = np.unique(_codes(given), return_index=True)
    if len(codes) < len(given):
        raise UserError("DATASETS.CLASSES, IGNORED_COLORS: two have the same color, by which labels tell them")
    seen = _codes(pixels)
    at = np.searchsorted(codes, seen).clip(max=len(codes) - 1)
    if (unknown := codes[at] != seen).any():
        colors = np.unique(pixels[unknown], axis=0)
        raise UserError(
            f"{path}: number of colors that the config does not name: {len(colors)}, first {colors[0].tolist()}: add "
            "them to DATASETS.CLASSES or DATASETS.IGNORED_COLORS (resizing, and JPEG, mix colors)"
        )
    return meant[first][at]


def _codes(colors: np.ndarray) -> np.ndarray:
    """A number for each color (…, 3)."""
    return (colors[..., 0] << 16) | (colors[..., 1] << 8) | colors[..., 2]
