"""The COCO file of labels that detectors wrote, from their shards: it is never in memory as a whole."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from densedist.common.labels.shards import Shards
from densedist.det.data.teacher_labels import VARIANCE


@dataclass(frozen=True)
class Written:
    """What a file of labels has.

    Args:
        objects: how many of each class.
        crowds: how many.
        labeled: images with objects.
        highest: of all scores, those of boxes that were left out included; None = there was no box.
    """

    objects: Sequence[int]
    crowds: int
    labeled: int
    highest: float | None


def write_coco(
    file: IO[bytes], shards: Shards, names: Sequence[str], least: np.ndarray, ignored_from: float | None
) -> Written:
    """Write the images and boxes of all shards as a COCO file.

    Args:
        names: of the classes.
        least: for each class the score from which on a box is an object.
        ignored_from: boxes of a lower score than that, but of this one at least, are crowds; None = they are left out.
    """
    counts = np.zeros((2, len(names)), np.int64)  # objects, crowds
    labeled, scores = set[int](), list[float]()

    def annotations() -> Iterator[dict[str, Any]]:
        for image in images_of(shards):
            if image["highest"] is not None:
                scores.append(image["highest"])
            for box in image["boxes"]:
                known = annotation(box, least[box["category_id"]], ignored_from)
                if known:
                    counts[known["iscrowd"], box["category_id"]] += 1
                    if not known["iscrowd"]:
                        labeled.add(image["id"])
                    yield {"id": int(counts.sum())} | known

    images = ({key: image[key] for key in ("id", "file_name", "height", "width")} for image in images_of(shards))
    categories = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
    file.write(b"{")
    for number, (name, entries) in enumerate(
        {"images": images, "categories": categories, "annotations": annotations()}.items()
    ):
        file.write(f'{", " if number else ""}"{name}": '.encode())
        _write_list(file, entries)
    file.write(b"}\n")
    return Written(counts[0].tolist(), int(counts[1].sum()), len(labeled), max(scores, default=None))


def images_of(shards: Shards) -> Iterator[dict[str, Any]]:
    """Yield what shards have of each image, in order: {"id", "file_name", "height", "width", "boxes",
    "highest": the highest score of its boxes, those included that are not kept, or None}."""
    for content in shards.read():
        yield from content["images"]


def _write_list(file: IO[bytes], entries: Iterable[dict[str, Any]]) -> None:
    """Write a list as json.dumps does."""
    file.write(b"[")
    for number, entry in enumerate(entries):
        file.write((", " if number else "").encode() + json.dumps(entry).encode())
    file.write(b"]")


def annotation(box: dict[str, Any], least: float, ignored_from: float | None) -> dict[str, Any] | None:
    """Convert one of COCO's results, whose categories count from 0, to an annotation: an object from a score on, a
    crowd from a lower one on; else None."""
    if (is_crowd := box["score"] < least) and (ignored_from is None or box["score"] < ignored_from):
        return None
    x, y, width, height = box["bbox"]
    kept = {key: box[key] for key in ("segmentation", VARIANCE) if key in box}
    return {
        "image_id": box["image_id"],
        "category_id": box["category_id"] + 1,
        "bbox": [x, y, width, height],
        "area": width * height,
        "iscrowd": int(is_crowd),
        "score": box["score"],
    } | kept
