"""Label images whose pixels are the colors of classes."""

import cv2
import numpy as np
from PIL import Image

from densedist.common.data.headers import Header, read_header
from densedist.common.data.pixels import has_transparent_pixels
from densedist.common.errors import UserError
from densedist.seg.labels import IGNORE, Classes

MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L", "I;16N")


def read_label_ids(path: str) -> np.ndarray:
    """Read labelIds (H, W), uint8: of a palette the indices; of 1, 2 or 4 bits the numbers as they are, from 0 on.

    Other readers spread 1, 2 and 4 bits over 0 to 255, and show the colors of a palette.

    Raises:
        UserError: it cannot be read, is no_label, or has numbers that are not 0 to 255.
    """
    return read_label(path)[0]


def read_label(path: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Read labelIds (see read_label_ids) and the colors of the palette, (256, 3), uint8; None if there is none.

    Raises:
        UserError: see read_label_ids.
    """
    colors = None
    try:
        header = read_header(path)
        if why := no_label(header):
            raise UserError(f"{path} {why}")
        with Image.open(path) as image:
            numbers = np.asarray(image)
            if header.mode == "P":
                given = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)[:256]
                colors = np.zeros((256, 3), np.uint8)
                colors[: len(given)] = given
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(f"{path} cannot be read as an image: {error}") from error
    if header.mode == "L" and header.bits < 8:
        numbers = numbers // (255 // (2**header.bits - 1))
    if numbers.dtype != np.uint8:
        if numbers.max() > 255 or numbers.min() < 0:
            raise UserError(f"{path} holds labelIds from {numbers.min()} to {numbers.max()}: want 0 to 255")
        numbers = numbers.astype(np.uint8)
    return numbers, colors


def read_train_ids(path: str, classes: Classes) -> np.ndarray:
    """Read trainIds (H, W), uint8: 0 for the first of the classes and so on, IGNORE for what does not count.

    Raises:
        UserError: it cannot be read, or has a number beyond the classes.
    """
    train_ids = read_label_ids(path)
    if (unknown := (train_ids >= len(classes)) & (train_ids != IGNORE)).any():
        raise UserError(
            f"{path} holds trainIds {np.unique(train_ids[unknown]).tolist()}: want 0 to {len(classes) - 1}, in the "
            f"order of DATASETS.CLASSES, and {IGNORE} for ignored pixels"
        )
    return train_ids


def read_colors(path: str, classes: Classes) -> np.ndarray:
    """Read trainIds (H, W), uint8, by the colors of the classes; those that are ignored give IGNORE.

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
        raise UserError("DATASETS.CLASSES, IGNORED_COLORS: two have the same color, so labels cannot distinguish them")
    seen = _codes(pixels)
    at = np.searchsorted(codes, seen).clip(max=len(codes) - 1)
    if (unknown := codes[at] != seen).any():
        colors = np.unique(pixels[unknown], axis=0)
        gray = " (its three channels are equal: if these are labelIds, save one of them)" if _is_gray(pixels) else ""
        raise UserError(
            f"{path}: colors that the config does not name: {len(colors)}, first {colors[0].tolist()}{gray}: "
            "add them to DATASETS.CLASSES or DATASETS.IGNORED_COLORS (resizing, and JPEG, mix colors)"
        )
    return meant[first][at]


def has_colors(header: Header) -> bool:
    """Return whether an image of that header has three or four channels of 8 bits; a palette's colors mean nothing."""
    return header.mode in ("RGB", "RGBA")


def occurring(numbers: np.ndarray) -> np.ndarray:
    """Return which of 0 to 255 occur in uint8 of any shape, bool (256,)."""
    return cv2.calcHist([numbers.reshape(1, -1)], [0], None, [256], [0, 256]).ravel() > 0


def no_label(header: Header) -> str | None:
    """Say why an image of that header holds no numbers of classes; None if it may."""
    if why := no_mask(header):
        return why
    if header.mode in MODES:
        return None
    if header.mode == "F":
        return "has numbers with a fraction: want whole ones, the labelIds"
    if header.mode in ("LA", "PA"):
        return f"has an alpha channel ({header.mode}): want one channel, of labelIds"
    return f"has colors ({header.mode}): want one channel, of labelIds: gray, or the indices of a palette"


def no_mask(header: Header) -> str | None:
    """Say why the numbers or colors of an image of that header are not its author's; None if they are."""
    if header.strange:
        return header.strange
    if header.orientation != 1:
        return f"is shown turned (EXIF orientation {header.orientation}): turn the pixels, or take the mark out"
    if not header.lossless:
        kind = "a TIFF compressed with loss" if header.format == "TIFF" else f"a {header.format} file with loss"
        return f"is {kind}, which changes labelIds and colors: save masks from their source as PNG"
    if header.zero_is_white:
        return "has 0 for white, which readers turn around: save it with 0 for black, or as PNG"
    return None


def _no_colors(path: str, header: Header) -> str | None:
    """Say why the colors of an image of that header are not its author's; None if they are."""
    if why := no_mask(header):
        return why
    if header.too_deep:
        return f"has {header.too_deep}: want 8 bits, the colors of DATASETS.CLASSES"
    if header.mode == "RGBA" and has_transparent_pixels(path):
        return "has transparent pixels, and only you know their class: give them its color, and take the alpha out"
    return None


def _is_gray(pixels: np.ndarray) -> bool:
    return bool((pixels == pixels[..., :1]).all())


def _codes(colors: np.ndarray) -> np.ndarray:
    """Return a number for each color (…, 3)."""
    return (colors[..., 0] << 16) | (colors[..., 1] << 8) | colors[..., 2]
