"""The contact sheet of labels that detectors wrote: boxes over their images."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.data.detection_utils import read_image
from detectron2.structures import Boxes, Instances

from densedist.common.labels.shards import Shards
from densedist.common.labels.sheet import SCORE_BINS, Chosen, Sheet, threshold
from densedist.common.report.panels import Panel
from densedist.common.words import some
from densedist.det.drawing import draw_marks, predicted
from densedist.det.inference.labels_file import annotation, images_of

Entry = Mapping[str, Any]  # what a shard has of an image


def sheet(shards: Shards, names: Sequence[str], least: np.ndarray, ignored_from: float | None) -> Sheet:
    """Return what a sheet shows of labels in shards. The arguments are those of write_coco."""
    chosen, counts, images = Chosen(), np.zeros((len(names), SCORE_BINS), np.int64), 0
    for image in images_of(shards):
        images += 1
        objects = [box for box in image["boxes"] if box["score"] >= least[box["category_id"]]]
        scores = np.array([box["score"] for box in objects])
        chosen.add(image["id"], float(scores.mean()) if objects else None, len(objects))
        classes = [box["category_id"] for box in objects]
        np.add.at(counts, (classes, np.minimum((scores * SCORE_BINS).astype(int), SCORE_BINS - 1)), 1)
    wanted = set(chain.from_iterable(chosen.kinds().values()))
    entries = {image["id"]: image for image in images_of(shards) if image["id"] in wanted}
    total = int(counts.sum())
    rows = zip(names, counts.sum(1).tolist(), least.tolist(), strict=True)
    return Sheet(
        verdict=f"{some(total, 'object')} in {some(images, 'image')}, {total / max(images, 1):.3g} in each.",
        head=["objects", "in each image", "threshold"],
        classes={name: [str(n), f"{n / max(images, 1):.3g}", threshold(score)] for name, n, score in rows},
        histograms=counts,
        of="the objects, by class",
        images=chosen.kinds(),
        picture=lambda number: _picture(entries[number], names, least, ignored_from),
    )


def _picture(
    entry: Entry, names: Sequence[str], least: np.ndarray, ignored_from: float | None
) -> tuple[str, list[Panel]]:
    """Return the name of an image, and the image with its objects; crowds are dashed."""
    pairs = [(box, annotation(box, least[box["category_id"]], ignored_from)) for box in entry["boxes"]]
    objects, crowds = (
        [box for box, known in pairs if known and known["iscrowd"] == is_crowd] for is_crowd in (False, True)
    )
    size = entry["height"], entry["width"]
    marks = [predicted(_instances(objects, size), names)]
    marks.append(replace(predicted(_instances(crowds, size), names), dashed=True))
    mean = f", mean score {np.mean([box['score'] for box in objects]):.2f}" if objects else ""
    ignored = f", {len(crowds)} ignored (dashed)" if crowds else ""
    note = f"{some(len(objects), 'object')}{mean}{ignored}"
    picture = read_image(entry["file_name"], "RGB")
    return Path(entry["file_name"]).name, [Panel(picture, "labels", note, partial(draw_marks, marks))]


def _instances(boxes: Sequence[Entry], size: tuple[int, int]) -> Instances:
    """Convert COCO's results on an image to instances."""
    corners = torch.tensor([box["bbox"] for box in boxes], dtype=torch.float32).view(-1, 4)
    corners[:, 2:] += corners[:, :2]
    classes = torch.tensor([box["category_id"] for box in boxes], dtype=torch.int64)
    scores = torch.tensor([box["score"] for box in boxes])
    return Instances(size, pred_boxes=Boxes(corners), pred_classes=classes, scores=scores)
