"""Images whose pixels are numbers of classes: read as the numbers that their author gave."""

import cv2
import numpy as np
from PIL import Image

from densedist.common.data.headers import Header, read_header
from densedist.common.errors import UserError

MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L", "I;16N")


def no_mask(header: Header) -> str | None:
    """Why the numbers or colors of an image of that header are not those of its author, in words; None if they are."""
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


def no_label(header: Header) -> str | None:
    """Why an image of that header holds no numbers of classes, in words; None if it may."""
    if why := no_mask(header):
        return why
    if header.mode in MODES:
        return None
    if header.mode == "F":
        return "has numbers with a fraction: want whole ones, the labelIds"
    if header.mode in ("LA", "PA"):
        return f"has an alpha channel ({header.mode}): want one channel, of labelIds"
    return f"has colors ({header.mode}): want one channel, of labelIds: gray, or the indices of a palette"


def read_label_ids(path: str) -> np.ndarray:
    """labelIds (H, W), uint8: of a palette the indices; of 1, 2 or 4 bits the numbers as they are, from 0 on.

    Other readers spread 1, 2 and 4 bits over 0 to 255, and show the colors of a palette.

    Raises:
        UserError: it cannot be read, is no_label, or has numbers that are not 0 to 255.
    """
    return read_label(path)[0]


def read_label(path: str) -> tuple[np.ndarray, np.ndarray | None]:
    """As read_label_ids, and the colors of the palette, (256, 3), uint8; None if it has none.

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


def occurring(numbers: np.ndarray) -> np.ndarray:
    """Which of 0 to 255 occur in uint8 of any shape, bool (256,)."""
    return cv2.calcHist([numbers.reshape(1, -1)], [0], None, [256], [0, 256]).ravel() > 0
