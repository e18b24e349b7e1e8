"""Colors of what is no class: ignored pixels, and pixels where models err or differ, apart from the classes' own."""

import itertools
from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np

Color = tuple[int, ...]

# Kinds of pixels, with label and, where no class looks like it, color.
NOTHING, WRONG, STUDENT_RIGHT, TEACHER_RIGHT, NEITHER, UNCLEAR = range(6)
KINDS = {
    WRONG: ("wrong", (220, 38, 38)),
    STUDENT_RIGHT: ("differ: student right", (37, 99, 235)),
    TEACHER_RIGHT: ("differ: teacher right", (249, 115, 22)),
    NEITHER: ("differ: both wrong", (147, 51, 234)),
    UNCLEAR: ("differ: unclear", (14, 165, 160)),
}
FAR = 29  # CIE Lab's ΔE (1976), from which on two colors are easy to tell apart in small regions
NEUTRAL = ((0, 0, 0), (255, 255, 255), (128, 128, 128))
STEPS = itertools.product((0, 51, 102, 153, 204, 255), repeat=3)
# No green, which would say right.
VIVID = [(r, g, b) for r, g, b in STEPS if max(r, g, b) - min(r, g, b) >= 153 and g <= max(r, b)]


def ignored_color(colors: np.ndarray) -> Color:
    """(r, g, b) of pixels that do not count: black, or white or gray where a class is nearly that; colors (K, 3)."""
    return _apart(NEUTRAL[0], NEUTRAL[1:], colors.tolist())


def kind_colors(colors: np.ndarray) -> np.ndarray:
    """(5, 3) uint8: the color of each of KINDS in their order, apart from classes and one another; colors (K, 3)."""
    return np.array(_kind_colors(tuple(map(tuple, colors.tolist()))), np.uint8)


@lru_cache
def _kind_colors(classes: tuple[Color, ...]) -> list[Color]:
    chosen: list[Color] = []
    for _, color in KINDS.values():
        chosen.append(_apart(color, VIVID, [*classes, *NEUTRAL, *chosen]))
    return chosen


def _apart(wanted: Color, others: Sequence[Color], taken: Sequence[Sequence[int]]) -> Color:
    """The color that is wanted if it is far from those that are taken, else the farthest of all."""
    candidates = [wanted, *others]
    distance = np.linalg.norm(_lab(candidates)[:, None] - _lab(taken), axis=2).min(1)
    return candidates[0 if distance[0] >= FAR else int(distance.argmax())]


def _lab(colors: Sequence[Sequence[int]]) -> np.ndarray:
    """RGB (N, 3) of 0 to 255 in CIE Lab, (N, 3)."""
    return cv2.cvtColor(np.array(colors, np.float32)[None] / 255, cv2.COLOR_RGB2LAB)[0]
