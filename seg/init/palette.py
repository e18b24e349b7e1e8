"""Colors for classes to which the data gives none: easy to tell apart, for color-blind readers, too."""

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np

Color = tuple[int, ...]

# Okabe and Ito, "Color Universal Design", 2008, without black, which is the color of ignored pixels.
FIRST = ((0, 114, 178), (230, 159, 0), (0, 158, 115), (240, 228, 66), (204, 121, 167), (86, 180, 233), (213, 94, 0))
# What lies around and below the classes in pictures: ignored pixels and a gray photograph (seg/drawing.py).
TAKEN = ((0, 0, 0), (180, 180, 180), (250, 250, 250))
LEVELS = 9  # of red, green and blue, from which further colors are chosen
GRAY, DARK, BRIGHT = 30, 25, 93  # bounds of CIE Lab's chroma and lightness
NORMAL = 0.5  # of a distance in normal vision: it sees more differences, and should see large ones
# Linear RGB as it is seen without red cones and without green ones: Machado, Oliveira and Fernandes, 2009.
VISIONS = (
    ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
)


def distinct_colors(count: int) -> list[Color]:
    """Return so many colors, (r, g, b) of 0 to 255; fewer colors are the first ones of more.

    Each after FIRST is the one that is farthest from its nearest among the colors before it.
    """
    return list(_all(max(count - len(FIRST), 0)))[:count]


@cache
def _all(further: int) -> tuple[Color, ...]:
    levels = np.linspace(0, 255, LEVELS).round().astype(int)
    candidates = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(-1, 3)
    lightness, *ab = seen_as(candidates)[0].T
    usable = (np.hypot(*ab) > GRAY) & (lightness > DARK) & (lightness < BRIGHT)
    candidates = candidates[usable]
    colors = list(FIRST)
    nearest = distances(candidates, [*TAKEN, *FIRST]).min(1)
    for _ in range(further):
        colors.append(tuple(candidates[nearest.argmax()].tolist()))
        nearest = np.minimum(nearest, distances(candidates, colors[-1:])[:, 0])
    return tuple(colors)


def distances(some: Sequence[Color] | np.ndarray, others: Sequence[Color] | np.ndarray) -> np.ndarray:
    """Return how far colors (N, 3) are from others (M, 3), (N, M): ΔE of CIE Lab, the least over VISIONS."""
    each = np.linalg.norm(seen_as(some)[:, :, None] - seen_as(others)[:, None], axis=3)
    return np.minimum(NORMAL * each[0], each[1:].min(0))


def seen_as(colors: Sequence[Color] | np.ndarray) -> np.ndarray:
    """Convert RGB (N, 3) of 0 to 255 to CIE Lab in each of VISIONS, (3, N, 3)."""
    given = np.asarray(colors, np.float64) / 255
    linear = np.where(given <= 0.04045, given / 12.92, ((given + 0.055) / 1.055) ** 2.4)
    seen = (linear @ np.array(VISIONS).transpose(0, 2, 1)).clip(0, 1).astype(np.float32)
    return cv2.cvtColor(np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055), cv2.COLOR_RGB2LAB)
