"""Compare the class names that weights were trained with, by their config.yaml, with those of a config."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from densedist.common.config.files import read_file
from densedist.common.errors import UserError
from densedist.common.run_files import config_beside

logger = logging.getLogger(__name__)
RENAMED = "taken for another name of the same class"
SAME_CLASSES = "give the data the same classes in the same order"


def names_of(datasets: Mapping[str, Any]) -> list[str]:
    """Return the names in a config's DATASETS.CLASSES: text, or groups with a name; empty = unknown."""
    return [str(one["name"] if isinstance(one, Mapping) else one) for one in datasets.get("CLASSES") or ()]


def refuse_other_classes(ours: Sequence[str], config: Path | None, key: str, remedy: str = SAME_CLASSES) -> None:
    """Refuse classes that are not those of a config by name and order, where both are known.

    Args:
        ours: names, in order; empty = unknown.
        config: the config.yaml of trained weights; None = there is none.
        key: what names the weights, for messages.

    Raises:
        UserError: naming the first class that differs.
    """
    theirs = _names_in(config)
    if ours and theirs and list(ours) != theirs:
        raise UserError(f"{key}: {_difference(ours, theirs, config)}: {remedy}")


def refuse_exchanged_classes(ours: Sequence[str], weights: str, key: str, otherwise: str = RENAMED) -> None:
    """Refuse weights that were trained with the same classes in another order; warn of other names.

    Args:
        ours: names, in order; empty = unknown. Those of another number are not compared: the weights say it themselves.
        weights: a file, folder or address.
        key: what names the weights, for messages.
        otherwise: what other names are taken for.

    Raises:
        UserError: naming the first class that differs.
    """
    theirs = _names_in(config := config_beside(weights))
    if len(ours) != len(theirs) or list(ours) == theirs:
        return
    difference = f"{key}: {_difference(ours, theirs, config)}"
    if sorted(ours) == sorted(theirs):
        raise UserError(f"{difference}: {SAME_CLASSES}")
    logger.warning(f"{difference}: {otherwise}")


def _names_in(config: Path | None) -> list[str]:
    if config is None or not config.is_file():
        return []
    with suppress(UserError):  # what cannot be read as a config says nothing
        datasets = read_file(str(config)).get("DATASETS")
        return names_of(datasets) if isinstance(datasets, Mapping) else []
    return []


def _difference(ours: Sequence[str], theirs: Sequence[str], config: Path | None) -> str:
    if len(ours) != len(theirs):
        return f"{config} has {len(theirs)} classes, DATASETS {len(ours)}"
    number, (one, other) = next((n, p) for n, p in enumerate(zip(ours, theirs, strict=True)) if p[0] != p[1])
    return f"class {number} is {other} in {config}, {one} in DATASETS"
