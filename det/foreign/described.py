"""The config of a detector that `densedist export` wrote, as its file says it."""

from collections.abc import Mapping
from typing import Any


def words_of(said: Mapping[str, Any]) -> list[str]:
    """Return the overrides under which a file finds boxes in images; said: see Exporter.graph."""
    return [
        *("DATASETS.CLASSES", str([str(name) for name in said["classes"]])),
        *("INPUT.FORMAT", str(said["channels"])),
        *("INPUT.MIN_SIZE_TEST", str(int(said["shortest_side"]))),
        *("INPUT.MAX_SIZE_TEST", str(int(said["longest_side_at_most"]))),
    ]
