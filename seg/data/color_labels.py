"""Label images whose pixels are the colors of classes."""

import numpy as np
from PIL import Image

from densedist.common.data.headers import Header, read_header
from densedist.common.data.label_images import no_mask
from densedist.common.data.pixels import has_transparent_pixels
from densedist.common.errors import UserError
from densedist.seg.labels import IGNORE, Classes


def has_colors(header: Header) -> bool:
    """Whether an image of that header has three or four channels of 8 bits; a palette's colors mean nothing."""
    return header.mode in ("RGB", "RGBA")


def _no_colors(path: str, header: Header) -> str | None:
    """Why the colors of an image of that header are not those of its author, in words; None if they are."""
    if why := no_mask(header):
        return why
    if header.too_deep:
        return f"has {header.too_deep}: want 8 bits, the colors of DATASETS.CLASSES"
    if header.mode == "RGBA" and has_transparent_pixels(path):
        return "has transparent pixels, and only you know their class: give them its color, and take the alpha out"
    return None


def read_colors(path: str, classes: Classes) -> np.ndarray:
    """trainIds (H, W), uint8, by the colors of the classes; those that are ignored give IGNORE.

    Raises:
        UserError: it cannot be read, its colors are not its author's, one has no meaning or is that of two classes.
    """
    try:
        header = read_header(path)
        if why := _no_colors(path, header):
            raise UserError(f"{path} {why}")
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"), dtype=np.int32)
    except (OSError, ValueError, SyntaxError) as error:
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
        gray = " (its three channels are equal: if these are labelIds, save one of them)" if _is_gray(pixels) else ""
        raise UserError(
            f"{path}: number of colors that the config does not name: {len(colors)}, first {colors[0].tolist()}{gray}: "
            "add them to DATASETS.CLASSES or DATASETS.IGNORED_COLORS (resizing, and JPEG, mix colors)"
        )
    return meant[first][at]


def _is_gray(pixels: np.ndarray) -> bool:
    return bool((pixels == pixels[..., :1]).all())


def _codes(colors: np.ndarray) -> np.ndarray:
    """A number for each color (…, 3)."""
    return (colors[..., 0] << 16) | (colors[..., 1] << 8) | colors[..., 2]
