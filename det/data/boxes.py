"""What can be wrong with boxes: bad ones, and all of them given in another form."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from detectron2.structures import BoxMode

from densedist.det.data.coco import Coco, Entry

logger = logging.getLogger(__name__)
Box = Sequence[float]  # x, y, w, h in pixels
BEYOND = 1.0  # pixels by which a box may stick out of its image: rounding


def is_bad(box: Box, height: int, width: int) -> bool:
    """Return whether a box (x, y, w, h) is not finite, has no area, or none inside its image. It may stick out."""
    x, y, w, h = box
    inside = min(x + w, width) - max(x, 0) > 0 and min(y + h, height) - max(y, 0) > 0
    return not (all(map(math.isfinite, box)) and w > 0 and h > 0 and inside)


def bad_boxes(coco: Coco) -> np.ndarray:
    """Return the places among all annotations of the objects whose box cannot be learned (see is_bad)."""
    objects = ~coco.columns.crowds
    x, y, w, h = boxes = coco.columns.boxes.T
    height, width = coco.sizes[coco.columns.images].T
    with np.errstate(invalid="ignore", over="ignore"):
        inside = np.minimum(x + w, width) - np.maximum(x, 0) > 0
        inside &= np.minimum(y + h, height) - np.maximum(y, 0) > 0
    good = np.isfinite(boxes).all(0) & (w > 0) & (h > 0) & inside
    return (objects & ~good).nonzero()[0]


def other_form(coco: Coco) -> str | None:
    """Say in what other form than [x, y, w, h] in pixels the boxes must be; return None where they may be in that one.

    No box says so by itself; all of them together do. Parts of the image are smaller than a pixel. Corners and
    centers fit into their images when they are taken for what they are, and stick out of them as [x, y, w, h]: of
    boxes that mean what they say next to none does.
    """
    kept = ~coco.columns.crowds & np.isfinite(coco.columns.boxes).all(1)
    boxes, sizes = coco.columns.boxes[kept].T, coco.sizes[coco.columns.images[kept]].T
    count = boxes.shape[1]
    if not count:
        return None
    if (np.abs(boxes).max(0) <= BEYOND).all() and (sizes.max(0) > 2).all():
        return "all of them lie within the first pixel: are they relative to the image size?"
    outside = int(_stick_out(boxes, sizes).sum())
    fitting = [encoding for encoding, fit in ENCODINGS.items() if fit(boxes, sizes).all()]
    few = count < 5
    if 10 * outside > count and fitting and (not few or 2 * outside > count):
        return f"{outside} of {count} stick out of their image, and none would as {fitting[0]}: are they that?"
    if 2 * outside > count and not few:
        return f"{outside} of {count} stick out of their image: are they corners, or of images of another size?"
    return None


def drop_bad_boxes(dicts: Sequence[Entry]) -> list[Entry]:
    """Return Detectron2's dataset dicts without the annotations whose box is bad; images stay."""

    def keep(annotation: Entry, image: Entry) -> bool:
        box = BoxMode.convert(list(annotation["bbox"]), annotation["bbox_mode"], BoxMode.XYWH_ABS)
        return bool(annotation.get("iscrowd")) or not is_bad(box, image["height"], image["width"])

    kept = [d | {"annotations": [a for a in d["annotations"] if keep(a, d)]} for d in dicts]
    dropped = sum(len(d["annotations"]) for d in dicts) - sum(len(d["annotations"]) for d in kept)
    logger.info(f"DATASETS.DROP_BAD_BOXES: dropped {dropped} annotations")
    return kept


def _stick_out(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return which boxes (4, N) stick out of images of these heights and widths (2, N)."""
    (x, y, w, h), (height, width) = boxes, sizes
    return (x + w > width + BEYOND) | (y + h > height + BEYOND) | (x < -BEYOND) | (y < -BEYOND)


def _fit_as_corners(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    (left, top, right, bottom), (height, width) = boxes, sizes
    wide = (left >= 0) & (left < right) & (right <= width + BEYOND)
    return wide & (top >= 0) & (top < bottom) & (bottom <= height + BEYOND)


def _fit_as_centers(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    x, y, w, h = boxes
    return ~_stick_out(np.stack([x - w / 2, y - h / 2, w, h]), sizes)


# Other encodings, and which boxes in that encoding lie in their images.
ENCODINGS: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "[x1, y1, x2, y2]": _fit_as_corners,
    "[center x, center y, w, h]": _fit_as_centers,
}
