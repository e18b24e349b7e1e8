"""The config of a segmentation model that `densedist export` wrote, as its file says it."""

from collections.abc import Mapping
from typing import Any


def words_of(said: Mapping[str, Any]) -> list[str]:
    """Return the overrides under which a file labels images; said: see Exporter.graph."""
    parts = zip(said["classes"], said["label_ids"], said["colors"], strict=True)
    classes = [{"name": str(name), "ids": [int(one)], "color": [int(x) for x in color]} for name, one, color in parts]
    return [
        *("DATASETS.CLASSES", str(classes)),
        *("INPUT.FORMAT", str(said["channels"])),
        *("TEST.SCALES", str([float(said["scale"])])),
    ]
