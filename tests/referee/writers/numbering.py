"""The numbers and colors by which masks say classes."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from referee.scenes import IGNORED, World

COLORS = ((10, 20, 30), (200, 0, 0), (0, 180, 90), (70, 70, 240))
OTHER = (255, 0, 255)  # of what is ignored
NUMBERINGS = (
    "from 1",
    "from 0",
    "sparse",
    "spread",
    "from 255 down",
    "two numbers a class",
    "255 is a class",
    "all are named",
)


def numbers(world: World, numbering: str) -> tuple[list[list[int]], int]:
    """The labelIds of each class, and that of pixels that do not count."""
    count = len(world.names)
    return {
        "from 0": ([[n] for n in range(count)], 255),
        "from 1": ([[n + 1] for n in range(count)], 0),
        "sparse": ([[n] for n in (7, 26, 33, 200)[:count]], 0),
        "spread": ([[round(255 * n / (count - 1))] for n in range(count)], 1),
        "from 255 down": ([[255 - n] for n in range(count)], 0),
        "two numbers a class": ([[n, n + 100] for n in range(count)], 255),
        "all are named": ([[n + 1] for n in range(count)], 0),  # as ADE20K's 150 classes: no number is refused
        "255 is a class": ([[255], *([n] for n in range(1, count))], 0),
    }[numbering]


def label_ids(world: World, numbering: str) -> list[np.ndarray]:
    """For each scene the labelIds (H, W), uint8; of several that a class has, by turns."""
    classes, ignored = numbers(world, numbering)
    result = []
    for scene in world.scenes:
        ids = np.full(scene.labels.shape, ignored, np.uint8)
        turn = np.indices(scene.labels.shape).sum(0)
        for number, of_class in enumerate(classes):
            here = scene.labels == number
            ids[here] = np.array(of_class)[turn[here] % len(of_class)]
        result.append(ids)
    return result


def colors(world: World, numbering: str) -> np.ndarray:
    """The color of each labelId, (256, 3), uint8."""
    table = np.tile(np.array(OTHER, np.uint8), (256, 1))
    for of_class, color in zip(numbers(world, numbering)[0], COLORS, strict=False):
        table[of_class] = color
    return table


def classes(world: World, numbering: str) -> Mapping[str, Any]:
    """What a user writes under DATASETS of them."""
    of_classes, ignored = numbers(world, numbering)
    entries = [
        {"name": name, "ids": ids, "color": list(color)}
        for name, ids, color in zip(world.names, of_classes, COLORS, strict=False)
    ]
    others = [n for n in range(256) if n not in [i for ids in of_classes for i in ids]]
    used = any((scene.labels == IGNORED).any() for scene in world.scenes)
    return {
        "CLASSES": entries,
        "IGNORED_IDS": others if numbering == "all are named" else [ignored] if used or numbering != "from 0" else [],
        "IGNORED_COLORS": [list(OTHER)],
    }
