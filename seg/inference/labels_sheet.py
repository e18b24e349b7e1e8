"""The contact sheet of labels that segmentation models wrote: colors of classes over their images."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from densedist.common.data.headers import read_header
from densedist.common.data.images import evenly
from densedist.common.data.pixels import read_pixels
from densedist.common.labels.shards import Shards
from densedist.common.labels.sheet import SCORE_BINS, Chosen, Sheet, threshold
from densedist.common.report.panels import Panel
from densedist.common.words import some
from densedist.seg.data.label_images import read_label_ids
from densedist.seg.drawing import class_legend, paint
from densedist.seg.labels import IGNORE, UNKNOWN, Classes

COUNTED = 200  # images whose scores are counted
EVERY = 4  # of their rows and columns
Files = Callable[[int, str], tuple[Path, Path, Path]]  # of an image's number and name: image, label, scores


def sheet(shards: Shards, written: Classes, least: np.ndarray, files: Files) -> Sheet:
    """Return what a sheet shows of labels in shards.

    Args:
        written: the classes of the labels.
        least: for each class the probability from which on it is written.
        files: returns the files of an image.
    """
    chosen, names = Chosen("classes"), dict[int, str]()
    pixels, images = np.zeros((2, len(written) + 1), np.int64)
    for image in _images(shards):
        classes = [number for number in image["classes"] if number < len(written)]
        chosen.add(image["number"], image["score"], len(classes))
        pixels[image["classes"]] += image["pixels"]
        images[classes] += 1
        names[image["number"]] = image["name"]
    *shares, ignored = (pixels / max(pixels.sum(), 1)).tolist()
    rows = zip(written.names, shares, images.tolist(), least.tolist(), strict=False)
    counted = evenly(sorted(names), COUNTED)
    return Sheet(
        verdict=f"{some(len(names), 'image')}, {ignored:.1%} of the pixels ignored.",
        head=["of the pixels", "images", "threshold"],
        classes={name: [f"{share:.2%}", str(count), threshold(score)] for name, share, count, score in rows},
        histograms=_histograms([files(number, names[number]) for number in counted], written),
        of=f"the pixels of {some(len(counted), 'image')}, by class",
        images=chosen.kinds(),
        picture=lambda number: (names[number], _panels(*files(number, names[number]), written)),
        legend=class_legend(written.names, written.colors, ignored > 0),
    )


def _images(shards: Shards) -> Iterator[dict[str, Any]]:
    for content in shards.read():
        yield from content["images"]


def _histograms(files: Sequence[tuple[Path, Path, Path]], written: Classes) -> np.ndarray:
    """Count the pixels of each class by score, (K, SCORE_BINS), in every EVERY-th row and column."""
    counts = np.zeros((256, SCORE_BINS), np.int64)
    for _, label, of_scores in files:
        classes = _train_ids(label, written)[::EVERY, ::EVERY].astype(np.int64)
        scores = read_label_ids(str(of_scores))[::EVERY, ::EVERY].astype(np.int64)
        places = classes * SCORE_BINS + np.minimum(scores * SCORE_BINS // 255, SCORE_BINS - 1)
        counts += np.bincount(places.ravel(), minlength=counts.size).reshape(counts.shape)
    return counts[: len(written)]


def _train_ids(label: Path, written: Classes) -> np.ndarray:
    """Read the classes (H, W) of a label that was written, IGNORE where it is ignored."""
    classes = cv2.LUT(read_label_ids(str(label)), written.train_ids)
    return np.where(classes == UNKNOWN, np.uint8(IGNORE), classes)


def _panels(image: Path, label: Path, of_scores: Path, written: Classes) -> list[Panel]:
    picture = read_pixels(str(image), "RGB", read_header(str(image)))
    mean = read_label_ids(str(of_scores)).mean() / 255
    colored = paint(picture, _train_ids(label, written), written.colors)
    return [Panel(picture, "image"), Panel(colored, "labels", f"mean score {mean:.2f}")]
