"""Segmentations of annotations in COCO format: polygons, and run lengths in both of their forms."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, TypeVar

import numpy as np
from pycocotools import mask

T = TypeVar("T")
Mask = list[list[float]] | dict[str, Any]
FARTHEST = 1e6  # pixels from an image's corner; what lies beyond is no place, and takes pycocotools memory without end
BLOCK = 4096  # annotations that are looked at together
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


def are_plain(segmentations: Sequence[Any]) -> bool:
    """Return whether, at a glance, all are run lengths, polygons that readable() leaves as they are, or nothing."""
    listed = [one for one in segmentations if one and type(one) is not dict]
    if not set(map(type, listed)) <= {list}:
        return False
    polygons = list(chain.from_iterable(listed))
    if not set(map(type, polygons)) <= {list} or any(length % 2 or length < 6 for length in set(map(len, polygons))):
        return False
    values = list(chain.from_iterable(polygons))
    if not set(map(type, values)) <= {int, float}:
        return False
    try:
        return bool((np.abs(np.array(values, np.float64)) <= FARTHEST).all())
    except OverflowError:
        return False


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


def not_of_boxes(objects: Iterable[Mapping[str, Any]]) -> str | None:
    """Say why the polygons of objects cannot be those of their boxes; None where they may be.

    Args:
        objects: with "bbox" (x, y, w, h) and "segmentation", all in pixels.
    """
    found = [_spans(block) for block in in_blocks(a for a in objects if isinstance(a["segmentation"], list))]
    if not found:
        return None
    left, top, right, bottom, x, y, w, h = np.concatenate(found, 1)
    if (np.max([left, top, right, bottom], 0) <= 1).all() and (np.max([x, y, w, h], 0) > 1).all():
        return "all of them lie within the first pixel: are they relative to the image size?"
    apart = int(((right < x) | (left > x + w) | (bottom < y) | (top > y + h)).sum())
    if 2 * apart > left.size:
        return f"{apart} of {left.size} lie beside their box: are they [y, x], or of images of another size?"
    return None


def in_blocks(items: Iterable[T]) -> Iterator[list[T]]:
    """Yield lists of BLOCK items, the last of which may be shorter."""
    items = iter(items)
    while block := list(islice(items, BLOCK)):
        yield block


def _spans(objects: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Return left, top, right and bottom of the polygons of each object, then its box (8, N)."""
    lengths = [sum(map(len, a["segmentation"])) for a in objects]
    values = np.array([v for a in objects for polygon in a["segmentation"] for v in polygon], np.float64).reshape(-1, 2)
    starts = np.cumsum([0, *lengths[:-1]]) // 2
    edges = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
    return np.concatenate([*edges, np.array([a["bbox"] for a in objects], np.float64)], 1).T
