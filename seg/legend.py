"""The names and colors of classes in rows below a picture."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from matplotlib.font_manager import findfont
from PIL import Image, ImageDraw, ImageFont

LETTERS = 40  # of these, one above the other, are as high as the picture is wide; but a letter has LEAST pixels
LEAST = 12
MOST_ROWS = 4  # of a video, whose frames have rows for all classes up to this number


class Legend:
    """Rows of classes below pictures of one width; a picture that is narrower than a name is widened by white.

    Args:
        names: of K classes.
        colors: (K, 3) uint8.
        width: of the pictures, in pixels.
    """

    def __init__(self, names: Sequence[str], colors: np.ndarray, width: int) -> None:
        self._names, self._colors = names, colors
        self._size = max(width // LETTERS, LEAST)
        self._widths = [round(_font(self._size).getlength(name)) + 2 * self._size for name in names]
        self.width = max(width, *self._widths)

    def below(self, picture: np.ndarray, shares: Sequence[float]) -> np.ndarray:
        """Return an RGB picture (H, W, 3) of uint8, and below it the classes that occur in it.

        Args:
            shares: of the K classes in the picture.
        """
        present = [number for number, share in enumerate(shares) if share]
        return self._joined(picture, present, len(self._rows(present)))

    def below_frame(self, picture: np.ndarray, shares: Sequence[float]) -> np.ndarray:
        """Return the same for a frame of a video, whose pictures all have one height: the classes with the least shares
        are left out where there is no room."""
        rows = min(len(self._rows(range(len(self._names)))), MOST_ROWS)
        present = [number for number, share in enumerate(shares) if share]
        while len(self._rows(present)) > rows:
            present.remove(min(present, key=lambda number: shares[number]))
        return self._joined(picture, present, rows)

    def _rows(self, present: Sequence[int]) -> list[list[int]]:
        """Return the classes of each row."""
        rows: list[list[int]] = []
        left = 0
        for number in present:
            if not rows or self._widths[number] > left:
                rows.append([])
                left = self.width
            rows[-1].append(number)
            left -= self._widths[number]
        return rows

    def _joined(self, picture: np.ndarray, present: Sequence[int], rows: int) -> np.ndarray:
        height, width = picture.shape[:2]
        line = round(1.5 * self._size)
        strip = Image.new("RGB", (self.width, rows * line), "white")
        draw = ImageDraw.Draw(strip)
        for row, numbers in enumerate(self._rows(present)):
            left = self._size // 4
            for number in numbers:
                top = row * line + self._size // 4
                box = left, top, left + self._size, top + self._size
                draw.rectangle(box, tuple(self._colors[number].tolist()), "gray")
                middle = left + 1.3 * self._size, top + self._size / 2
                draw.text(middle, self._names[number], "black", _font(self._size), "lm")
                left += self._widths[number]
        joined = np.full((height + rows * line, self.width, 3), 255, np.uint8)
        joined[:height, :width], joined[height:] = picture, np.asarray(strip)
        return joined


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(findfont("DejaVu Sans"), size)
