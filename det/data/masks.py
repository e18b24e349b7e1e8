"""Segmentations of annotations in COCO form: polygons, and run lengths in both of their forms."""

from typing import Any

from pycocotools import mask

Mask = list[list[float]] | dict[str, Any]


class UnreadableError(Exception):
    """Says why a segmentation is none."""


def readable(segmentation: Any, height: int, width: int) -> Mask | None:
    """Polygons of three points and more, in pixels, or run lengths compressed, as pycocotools takes both.

    Args:
        segmentation: as a file has it.
        height, width: the image's.

    Returns:
        None where there is none: missing, empty, or without a polygon of three points.

    Raises:
        UnreadableError: it is something else.
    """
    if not segmentation:
        return None
    if isinstance(segmentation, dict):
        return _run_lengths(segmentation, height, width)
    if not isinstance(segmentation, list):
        raise UnreadableError(f"is {segmentation!r}: want polygons or run lengths")
    flat = all(type(value) in (int, float) for value in segmentation)
    polygons = [segmentation] if flat else segmentation  # one polygon without a list around it
    if not all(isinstance(p, list) and all(type(value) in (int, float) for value in p) for p in polygons):
        raise UnreadableError("is no list of polygons [x, y, x, y, …]")
    return [p for p in polygons if len(p) % 2 == 0 and len(p) >= 6] or None


def _run_lengths(segmentation: dict[str, Any], height: int, width: int) -> Mask:
    counts, size = segmentation.get("counts"), segmentation.get("size")
    if list(size or []) != [height, width]:
        raise UnreadableError(f"has run lengths of size {size}: want the image's [{height}, {width}]")
    if isinstance(counts, (str, bytes)):
        return segmentation
    if not isinstance(counts, list) or not all(type(count) is int and count >= 0 for count in counts):
        raise UnreadableError("has run lengths whose counts are neither text nor whole numbers")
    if sum(counts) != height * width:
        raise UnreadableError(f"has run lengths for {sum(counts)} pixels: want the image's {height * width}")
    return mask.frPyObjects(segmentation, height, width)
