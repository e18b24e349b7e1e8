"""Masks with a palette whose indices an image editor has counted anew: the colors of the classes at other numbers."""

from collections.abc import Mapping

import numpy as np

from densedist.common.errors import UserError
from densedist.seg.labels import IGNORE, UNKNOWN, Classes

Color = tuple[int, ...]


def refuse_renumbered(
    classes: Classes, used: Mapping[str, tuple[np.ndarray | None, np.ndarray | None]], train_ids: bool, source: str
) -> None:
    """Refuse masks whose palettes contradict the colors of the classes.

    A color alone may be a coincidence, as black of any first index: two that contradict are none, nor one among masks
    all of whose colors are classes'.

    Args:
        used: for each mask the colors of its palette, (256, 3), None without one, and which indices occur, bool (256,).
        train_ids: whether indices are trainIds, not labelIds.
        source: where the masks are named.

    Raises:
        UserError: naming the first, and what to do.
    """
    meant, here = _by_color(classes), _by_index(classes, train_ids)
    wrong: dict[Color, tuple[str, int]] = {}  # for each color the first mask and its index there
    count, known, strangers = 0, set(), False
    for file, (palette, indices) in used.items():
        if palette is None or indices is None:
            continue
        contradicts = False
        for index in np.flatnonzero(indices).tolist():
            color = tuple(palette[index].tolist())
            strangers |= color not in meant
            known |= {color} & meant.keys()
            if color in meant and meant[color] != here[index]:
                wrong.setdefault(color, (file, index))
                contradicts = True
        count += contradicts
    if len(wrong) < 2 and (not wrong or strangers or len(known) < 2):
        return
    color, (file, index) = next(iter(wrong.items()))
    of = "an ignored color" if meant[color] == IGNORE else f"the color of {classes.names[meant[color]]}"
    raise UserError(
        f"{source}: {count} masks, first {file}, have the colors of DATASETS.CLASSES at other indices of their "
        f"palette (index {index} has {of}), because image editors renumber palettes: save them as RGB, "
        "or with the ids as indices; if the indices are right, give the classes the palette's colors"
    )


def _by_color(classes: Classes) -> dict[Color, int]:
    """Return the class, or IGNORE, of each color that stands for one only."""
    colors = [*map(tuple, classes.colors.tolist()), *map(tuple, classes.ignored_colors.tolist())]
    numbers = [*range(len(classes)), *[IGNORE] * len(classes.ignored_colors)]
    return {color: number for color, number in zip(colors, numbers, strict=True) if colors.count(color) == 1}


def _by_index(classes: Classes, train_ids: bool) -> list[int]:
    """Return the class, IGNORE or UNKNOWN of each index."""
    if not train_ids:
        return classes.train_ids.tolist()
    return [*range(len(classes)), *[UNKNOWN] * (IGNORE - len(classes)), IGNORE]
