"""What can be wrong with boxes: bad ones, and all of them given in another form."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence

from detectron2.structures import BoxMode

from densedist.common.data.headers import Size
from densedist.det.data.coco import Coco, Entry

logger = logging.getLogger(__name__)
Box = Sequence[float]  # x, y, w, h in pixels
BEYOND = 1.0  # pixels by which a box may stick out of its image: rounding


def is_bad(box: Box, height: int, width: int) -> bool:
    """Return whether a box (x, y, w, h) is not finite, has no area, or none inside its image. It may stick out."""
    x, y, w, h = box
    inside = min(x + w, width) - max(x, 0) > 0 and min(y + h, height) - max(y, 0) > 0
    return not (all(map(math.isfinite, box)) and w > 0 and h > 0 and inside)


def bad_boxes(coco: Coco) -> list[Entry]:
    """Return the objects whose box cannot be learned (see is_bad)."""
    sizes = _sizes(coco)
    return [a for a in coco.objects if is_bad(a["bbox"], *sizes[a["image_id"]])]


def other_form(coco: Coco) -> str | None:
    """Say in what other form than [x, y, w, h] in pixels the boxes must be; return None where they may be in that one.

    No box says so by itself; all of them together do. Parts of the image are smaller than a pixel. Corners and
    centers fit into their images when they are taken for what they are, and stick out of them as [x, y, w, h]: of
    boxes that mean what they say next to none does.
    """
    sizes = _sizes(coco)
    pairs = [(a["bbox"], sizes[a["image_id"]]) for a in coco.objects if all(map(math.isfinite, a["bbox"]))]
    if not pairs:
        return None
    if all(max(map(abs, box)) <= BEYOND and max(size) > 2 for box, size in pairs):
        return "all of them lie within the first pixel: are they relative to the image size?"
    outside = sum(_sticks_out(box, size) for box, size in pairs)
    fitting = [encoding for encoding, fits in ENCODINGS.items() if all(fits(box, size) for box, size in pairs)]
    few = len(pairs) < 5
    if 10 * outside > len(pairs) and fitting and (not few or 2 * outside > len(pairs)):
        return f"{outside} of {len(pairs)} stick out of their image, and none would as {fitting[0]}: are they that?"
    if 2 * outside > len(pairs) and not few:
        return f"{outside} of {len(pairs)} stick out of their image: are they corners, or of images of another size?"
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


def _sizes(coco: Coco) -> dict[int, Size]:
    return {image["id"]: (image["height"], image["width"]) for image in coco.images}


def _sticks_out(box: Box, size: Size) -> bool:
    x, y, w, h = box
    return x + w > size[1] + BEYOND or y + h > size[0] + BEYOND or x < -BEYOND or y < -BEYOND


def _as_corners(box: Box, size: Size) -> bool:
    left, top, right, bottom = box
    return 0 <= left < right <= size[1] + BEYOND and 0 <= top < bottom <= size[0] + BEYOND


def _as_centers(box: Box, size: Size) -> bool:
    x, y, w, h = box
    return not _sticks_out((x - w / 2, y - h / 2, w, h), size)


# Other encodings, and whether a box in that encoding lies in its image.
ENCODINGS: Mapping[str, Callable[[Box, Size], bool]] = {
    "[x1, y1, x2, y2]": _as_corners,
    "[center x, center y, w, h]": _as_centers,
}
