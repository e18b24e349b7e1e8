"""Keys and values that a caller gives beside a config."""

from collections.abc import Mapping, Sequence
from typing import Any

# Keys of a config and their values, as a mapping or as on a command line: ["SOLVER.MAX_ITER", "100"].
Overrides = Mapping[str, Any] | Sequence[str]


def as_words(overrides: Overrides) -> list[str]:
    """As on a command line."""
    if isinstance(overrides, Mapping):
        return [str(word) for pair in overrides.items() for word in pair]
    return list(overrides)
