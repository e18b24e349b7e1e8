"""A part of a resized image, made from the pixels that it shows."""

from fractions import Fraction
from math import ceil

import cv2
import numpy as np


def scaled_size(size: tuple[int, int], scale: Fraction) -> tuple[int, int]:
    """Height and width of an image of that size, resized."""
    height, width = (max(int(length * scale), 1) for length in size)
    return height, width


def scaled_crop(
    image: np.ndarray, scale: Fraction, corner: tuple[int, int], size: tuple[int, int], interpolation: int
) -> np.ndarray:
    """What cv2.resize(image, None, fx=scale, fy=scale) has at corner (y, x), height and width of size.

    Args:
        image: (H, W) or (H, W, 3), uint8.
        scale: above 0; the fewer digits it has, the less is resized that is not in the crop.
        corner, size: within scaled_size of the image.
        interpolation: cv2.INTER_NEAREST or cv2.INTER_LINEAR.
    """
    (top, bottom, y), (left, right, x) = (
        _part(length, scale, start, count) for length, start, count in zip(image.shape[:2], corner, size, strict=True)
    )
    part = image[top:bottom, left:right]
    if scale != 1:
        part = cv2.resize(part, None, fx=float(scale), fy=float(scale), interpolation=interpolation)
    return part[y : y + size[0], x : x + size[1]]


def _part(length: int, scale: Fraction, start: int, count: int) -> tuple[int, int, int]:
    """The pixels (first, end) that show, when they are resized, start to start + count, and where in the result."""
    # An edge of a pixel falls on one of the result's at every denominator-th pixel only. Cut there, the rest is
    # resized as within the whole. The new border, repeated outwards where interpolation asks for what is beyond, must
    # show no farther than half a pixel.
    margin = ceil(scale / 2)
    first = max(start - margin, 0) // scale.numerator * scale.denominator
    end = min(ceil((start + count) / scale) + 1, length)
    return first, end, start - int(first * scale)
