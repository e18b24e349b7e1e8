"""INPUT.FLIP_PAIRS: classes that are each other's mirror images, as left hand and right hand."""

import logging
import re
from collections.abc import Sequence
from typing import Any

from densedist.common.errors import UserError

logger = logging.getLogger(__name__)
KEY = "INPUT.FLIP_PAIRS"
WANTED = "pairs of names of classes, [['left hand', 'right hand'], …]"


def is_pairs(value: Any) -> bool:
    """Return whether a value is a list of pairs of names."""
    pairs = isinstance(value, (list, tuple)) and all(isinstance(p, (list, tuple)) and len(p) == 2 for p in value)
    return pairs and all(isinstance(name, str) for pair in value for name in pair)


def mirrored_classes(pairs: Sequence[Sequence[str]], names: Sequence[str]) -> list[int] | None:
    """Return, for each class, the number of the one that its mirror image shows; None without pairs.

    Args:
        pairs: the value of the key.
        names: names of the classes, by number.

    Raises:
        UserError: a name that no class has, or that is given twice.
    """
    if not pairs:
        return None
    given = [name for pair in pairs for name in pair]
    if strange := [name for name in given if name not in names]:
        raise UserError(f"{KEY}: there is no class {strange[0]}: want names among {', '.join(names)}")
    if twins := [name for name in given if given.count(name) > 1]:
        raise UserError(f"{KEY}: {twins[0]} is given twice: a class has one mirror image")
    other = {one: two for pair in pairs for one, two in (pair, pair[::-1])}
    return [names.index(other.get(name, name)) for name in names]


def warn_of_sides(pairs: Sequence[Sequence[str]], names: Sequence[str], key: str, off: str) -> None:
    """Warn where names of classes differ in left and right alone, and nothing says that mirror images swap them.

    Args:
        pairs, names: see mirrored_classes.
        key: the key that has images mirrored.
        off: its value that does not.
    """
    given = {name for pair in pairs for name in pair}
    # "Left Eye", "eye_left": the same but for the side.
    rights = {re.sub("right", "left", name.lower()): name for name in names if "right" in name.lower()}
    found = [(one, rights[low]) for one in names if "left" in (low := one.lower()) and low in rights]
    if found := [pair for pair in found if not given & set(pair)]:
        (one, two), count = found[0], len(found)
        logger.warning(
            f"{key} shows images mirrored, and {count} pair(s) of classes differ in left and right alone, first {one} "
            f"and {two}: name them in {KEY}, [['{one}', '{two}'], …], so that they are swapped, or set {key} to {off}"
        )
