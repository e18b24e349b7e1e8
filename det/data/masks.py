"""Segmentations of annotations in COCO format: polygons, and run lengths in both of their forms."""

from collections.abc import Mapping, Sequence
from typing import Any

from pycocotools import mask

Mask = list[list[float]] | dict[str, Any]
FARTHEST = 1e6  # pixels from an image's corner; what lies beyond is no place, and takes pycocotools memory without end
FIRST = 48  # the character of compressed run lengths that means 0


class UnreadableError(Exception):
    """Says why a segmentation is none."""


def readable(segmentation: Any, height: int, width: int) -> Mask | None:
    """Return a segmentation as pycocotools takes it: polygons of three points and more, in pixels, or compressed run
    lengths.

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
        raise UnreadableError("is not a list of polygons [x, y, x, y, …]")
    if strange := [value for p in polygons for value in p if not -FARTHEST <= value <= FARTHEST]:
        raise UnreadableError(f"has a coordinate of {strange[0]:g} pixels")
    return [p for p in polygons if len(p) % 2 == 0 and len(p) >= 6] or None


def box_as_mask(box: Sequence[float]) -> Mask:
    """Return the polygon of a box (x, y, w, h)."""
    x, y, w, h = (min(max(value, -FARTHEST), FARTHEST) for value in box)
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def are_damaged(lengths: dict[str, Any]) -> bool:
    """Return whether compressed run lengths do not fill their image: pycocotools would read beyond its memory."""
    counts = lengths["counts"]
    text = counts if isinstance(counts, bytes) else counts.encode()
    if not all(FIRST <= value < FIRST + 64 for value in text):
        return True
    runs: list[int] = []
    run = shift = 0
    for value in text:  # 5 bits of each, the lowest first, and whether more follow
        part = value - FIRST
        run |= (part & 31) << shift
        shift += 5
        if not part & 32:
            run -= (part & 16) << (shift - 4)  # a negative one
            runs.append(run + (runs[-2] if len(runs) > 2 else 0))  # of its kind, more than the one before
            run = shift = 0
    height, width = lengths["size"]
    return shift > 0 or min(runs, default=0) < 0 or sum(runs) != height * width


def _run_lengths(segmentation: dict[str, Any], height: int, width: int) -> Mask:
    counts, size = segmentation.get("counts"), segmentation.get("size")
    if not isinstance(size, (list, tuple)) or list(size) != [height, width]:
        raise UnreadableError(f"has run lengths of size {size}: want the image's [{height}, {width}]")
    if isinstance(counts, (str, bytes)):
        return segmentation
    if not isinstance(counts, list) or not all(type(count) is int and count >= 0 for count in counts):
        raise UnreadableError("has run lengths whose counts are neither text nor whole numbers")
    if sum(counts) != height * width:
        raise UnreadableError(f"has run lengths for {sum(counts)} pixels: want the image's {height * width}")
    found = mask.frPyObjects(segmentation, height, width)
    return found | {"counts": found["counts"].decode()}  # text, as in files


def not_of_boxes(objects: Sequence[Mapping[str, Any]]) -> str | None:
    """Say why the polygons of objects cannot be those of their boxes; None where they may be.

    Args:
        objects: with "bbox" (x, y, w, h) and "segmentation", all in pixels.
    """
    spans = [(_span(a["segmentation"]), a["bbox"]) for a in objects if isinstance(a["segmentation"], list)]
    if not spans:
        return None
    if all(max(span) <= 1 < max(box) for span, box in spans):
        return "all of them lie within the first pixel: are they relative to the image size?"
    apart = sum(_apart(span, box) for span, box in spans)
    if 2 * apart > len(spans):
        return f"{apart} of {len(spans)} lie beside their box: are they [y, x], or of images of another size?"
    return None


def _span(polygons: Sequence[Sequence[float]]) -> tuple[float, float, float, float]:
    xs, ys = ([value for polygon in polygons for value in polygon[start::2]] for start in (0, 1))
    return min(xs), min(ys), max(xs), max(ys)


def _apart(span: tuple[float, float, float, float], box: Sequence[float]) -> bool:
    left, top, right, bottom = span
    x, y, w, h = box
    return right < x or left > x + w or bottom < y or top > y + h
