"""Formats of data sets: each is a key of DATASETS by which a config declares data sets, [name, where …] each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from densedist.common.config.keys import Key


@dataclass(frozen=True)
class Format:
    """A format that a task reads.

    Args:
        entry: what an entry of the key is, in words.
        read: reads a data set of an entry; each task says how it is called and what it returns.
        meaning: whose format it is, for the reference of keys.
        sizes: how many items an entry may have, its name included.
    """

    entry: str
    read: Callable[..., Any]
    meaning: str
    sizes: Sequence[int] = (3,)


def format_keys(formats: Mapping[str, Format]) -> dict[str, Key]:
    """Return the keys of formats by name."""
    return {f"DATASETS.{name}": Key([], meaning=f"{form.meaning}: {form.entry}.") for name, form in formats.items()}
