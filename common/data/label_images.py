"""Images whose pixels are numbers of classes: read as the numbers that their author gave."""

import numpy as np
from PIL import Image

from densedist.common.data.headers import Header, read_header
from densedist.common.errors import UserError

MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L", "I;16N")


def no_label(header: Header) -> str | None:
    """Why an image of that header holds no numbers of classes, in words; None if it may."""
    if header.mode in MODES:
        return None
    if header.mode == "F":
        return "has numbers with a fraction: want whole ones, the labelIds"
    return f"has colors ({header.mode}): want one channel, of labelIds: gray, or the indices of a palette"


def read_label_ids(path: str) -> np.ndarray:
    """labelIds (H, W), uint8: of a palette the indices; of 1, 2 or 4 bits the numbers as they are, from 0 on.

    Other readers spread 1, 2 and 4 bits over 0 to 255, and show the colors of a palette.

    Raises:
        UserError: it cannot be read, has several channels, or numbers that are not 0 to 255.
    """
    try:
        header = read_header(path)
        if why := no_label(header):
            raise UserError(f"{path} {why}")
        with Image.open(path) as image:
            numbers = np.asarray(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} cannot be read as an image: {error}") from error
    if header.mode == "L" and header.bits < 8:
        numbers = numbers // (255 // (2**header.bits - 1))
    if numbers.dtype != np.uint8:
        if numbers.max() > 255 or numbers.min() < 0:
            raise UserError(f"{path} holds labelIds from {numbers.min()} to {numbers.max()}: want 0 to 255")
        numbers = numbers.astype(np.uint8)
    return numbers
