"""Labels that are few, or that some classes lack: what is said of them."""

from collections.abc import Mapping
from math import floor
from typing import Any

from densedist.common.report.heading import listed
from densedist.common.words import some

FEW = 0.1  # share of the images that have labels, up to which these are few
SCARCE = 0.00005  # labels of a class: 0.00 % of the pixels, or no object
LOWER = "--score-threshold {}, and another --output-dir"


def remarks(record: Mapping[str, Any]) -> list[str]:
    """Return what to know before a student trains on labels, a sentence each: that they are few, or of few classes.

    Args:
        record: what labels.json holds.
    """
    classes = record["classes"]
    bare = [name for name, known in classes.items() if known["labels"] < SCARCE]
    lacking = f"There are no labels, or hardly any, of {listed(bare)}" if 0 < len(bare) < len(classes) else ""
    lacking += f" ({len(bare)} of {len(classes)} classes)" if lacking else ""
    return list(filter(None, [few(record), lacking]))


def few(record: Mapping[str, Any], lower: str = LOWER) -> str:
    """Say that labels are few or none, the highest score, and how to get more; "" where they are not few.

    Args:
        record: what labels.json holds; one of an earlier version counts neither labeled images nor scores.
        lower: how to ask for a lower threshold, with {} in its place.
    """
    nothing = not any(known["labels"] for known in record["classes"].values())
    if not nothing and not share_below(record, FEW):
        return ""
    said = (
        "Nothing to train on: no score reaches the threshold" if nothing else f"Little to train on: {counted(record)}"
    )
    highest = record.get("highest_score", 1.0)
    if highest is None:
        return f"{said}; the teacher predicts next to nothing in these images"
    if "highest_score" in record:
        said += f"; the highest score is {floor(1000 * highest) / 1000:g}"
    used = [known["score"] for known in record["classes"].values() if known["score"] is not None]
    if not (half := min([highest, *used]) / 2):
        return said
    return f"{said}; give a lower threshold, such as {lower.format(f'{half:.1g}')}"


def share_below(record: Mapping[str, Any], most: float) -> bool:
    """Return whether the share of the images that have labels is known, and is this one at most."""
    return "labeled_images" in record and record["labeled_images"] <= most * record["images"]


def counted(record: Mapping[str, Any]) -> str:
    """Return how many images have labels, in words."""
    verb = "has" if record["labeled_images"] == 1 else "have"
    return f"{record['labeled_images']} of {some(record['images'], 'image')} {verb} labels"
