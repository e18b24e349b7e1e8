"""The lines of YOLO's labels: a class and a box, a polygon, or a box and keypoints, in parts of the image."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from densedist.common.data.voc_lists import read_text
from densedist.common.errors import UserError

logger = logging.getLogger(__name__)
SLACK = 0.01  # by which a coordinate may leave the image: rounding
FEW = 5  # of so many objects it cannot be told what they are in common
BOX = "want the center of the box, its width and height"
POSES = "with keypoints behind the box data.yaml has kpt_shape"
CORNERS = 8  # numbers of an oriented box


@dataclass(frozen=True)
class Label:
    """An object.

    Args:
        kind: its class.
        numbers: x y w h of its center and size, or x y x y … of a polygon.
        whole: whether each is written as a whole number.
    """

    kind: int
    numbers: Sequence[float]
    whole: Sequence[bool]


def read_labels(files: Sequence[Path], classes: int, keypoints: tuple[int, int] | None) -> dict[Path, list[Label]]:
    """Read the objects of each file; a line that a file has twice is one object, as to Ultralytics.

    Args:
        classes: how many there are.
        keypoints: kpt_shape, how many each object has and how many numbers each of them; they are left out.

    Raises:
        UserError: a line that means nothing, or objects that together mean something else than boxes and polygons.
    """
    found, twice = {}, 0
    for file in files:
        lines = [(n, line.strip()) for n, line in enumerate(read_text(file).splitlines(), 1) if line.strip()]
        first = {line: n for n, line in reversed(lines)}
        twice += len(lines) - len(first)
        places = sorted((n, line) for line, n in first.items())
        found[file] = [_label(line, f"{file}, line {n}", classes, keypoints) for n, line in places]
    if twice:
        logger.warning(f"{files[0].parent}: {twice} label lines occur twice: each is used once")
    if why := _other_meaning([label for labels in found.values() for label in labels]):
        raise UserError(f"{files[0].parent}: labels of {len(files)} files, first {files[0].name}, {why}")
    return found


def _label(line: str, where: str, classes: int, keypoints: tuple[int, int] | None) -> Label:
    try:
        kind, *numbers = map(float, line.split())
    except ValueError as error:
        raise UserError(f"{where}: {line[:60]!r}: want numbers") from error
    if kind not in range(classes):
        raise UserError(f"{where}: class {kind:g}, but names has classes 0 to {classes - 1}")
    if keypoints:
        count, each = keypoints
        if len(numbers) != 4 + count * each:
            raise UserError(
                f"{where}: {len(numbers)} numbers after the class, but by kpt_shape [{count}, {each}] there are "
                f"{4 + count * each}: a box, x y w h, and its keypoints"
            )
        numbers = numbers[:4]
    if len(numbers) != 4 and (len(numbers) < 6 or len(numbers) % 2):
        raise UserError(f"{where}: {len(numbers)} numbers after the class: want a box, x y w h, or a polygon; {POSES}")
    if not all(-SLACK <= x <= 1 + SLACK for x in numbers):
        worst = max(numbers, key=lambda x: abs(x - 0.5))
        more = f"; {POSES}" if len(numbers) > 4 else ""
        raise UserError(f"{where}: {worst:g} is outside the image: want 0 to 1{more}")
    return Label(int(kind), numbers, [word.lstrip("+-").isdigit() for word in line.split()[1 : 1 + len(numbers)]])


def _other_meaning(labels: Sequence[Label]) -> str | None:
    """Say what objects of equally many numbers must be instead of boxes and polygons; None if they may be these.

    Keypoints lie in the box before them, whose size, taken for a corner of a polygon, lies far from all the others.
    """
    lengths = {len(label.numbers) for label in labels}
    if len(labels) < FEW or len(lengths) > 1:
        return None
    (length,) = lengths
    if length == 4:
        boxes = [label.numbers for label in labels]
        if 10 * sum(_sticks_out(box, 0.5) for box in boxes) <= len(boxes):
            return None
        if all(box[0] < box[2] and box[1] < box[3] for box in boxes):
            return f"are two corners each, it seems: {BOX}"
        return None if any(_sticks_out(box, 0.0) for box in boxes) else f"begin with a corner, it seems: {BOX}"
    if length == 6 and all(label.whole[5] and not label.whole[4] for label in labels):
        return "have a box, a score and a number each: leave out what stands behind the box"
    visible = all(value in (0, 1) for label in labels for value in label.numbers[6::3])
    apart = sum(_is_apart(label.numbers) for label in labels)
    if ((length - 4) % 3 == 0 and visible) or (length >= CORNERS and 5 * apart > len(labels)):
        return "have a box and points each, it seems: if these are keypoints, say how many in data.yaml, as kpt_shape"
    if length == CORNERS:
        logger.warning(
            "labels: every object has four corners: oriented boxes are replaced by the upright boxes around them"
        )
    return None


def _sticks_out(numbers: Sequence[float], anchor: float) -> bool:
    """Return whether the box leaves its image, if x and y are at this part of its width and height."""
    x, y, w, h = numbers
    left, top = x - anchor * w, y - anchor * h
    return min(left, top) < -SLACK or max(left + w, top + h) > 1 + SLACK


def _is_apart(numbers: Sequence[float]) -> bool:
    """Return whether the second point lies farther from the box around all others than this is wide and high."""
    xs, ys = numbers[::2], numbers[1::2]
    sides = [(list(values[:1]) + list(values[2:]), values[1]) for values in (xs, ys)]
    extent = max(max(others) - min(others) for others, _ in sides)
    away = max(max(min(others) - value, value - max(others)) for others, value in sides)
    return away > extent
