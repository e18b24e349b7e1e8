"""The contact sheet of labels: one page for a human to look at what a teacher wrote, before a student learns it."""

import heapq
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from densedist.common.errors import UserError
from densedist.common.labeling import F1, FREQUENCIES, Labeling, option_of, read_way
from densedist.common.labels.few import remarks
from densedist.common.report.page import MANY, Page, Table, write_page
from densedist.common.report.panels import Gallery, Panel
from densedist.common.report.plots import COLORS, svg, whole_ticks
from densedist.common.report.repeat import this_command, versions

FILE = "labels.html"
SCORE_OPTION = "--score-threshold"
SHOWN = 10  # images of each kind
SCORE_BINS = 20  # of a histogram
# Titles of the pictures, in the order of the page; LABELED stands for the last two where few images have labels.
ALL, RANDOM, UNSURE, FULL = "All images", "Ten at random", "The ten least sure", "The ten with most {}"
LABELED = "All {} with {}, the least sure first"


class Chosen:
    """The images that are shown, of all that are added: few are held at a time.

    Args:
        counted: what is counted in an image, for the title.
    """

    def __init__(self, counted: str = "objects") -> None:
        self._counted = counted
        self._kinds: dict[str, list[tuple[float, int]]] = {RANDOM: [], UNSURE: [], FULL.format(counted): []}
        self._draw, self._all = random.Random(0), 0

    def add(self, number: int, score: float | None, count: int) -> None:
        """Consider an image.

        Args:
            score: the mean over its labels, in [0, 1]; None = it has no label.
            count: what is counted in it.
        """
        self._all += 1
        values = self._draw.random(), None if score is None else -score, count or None
        for heap, value in zip(self._kinds.values(), values, strict=True):
            if value is not None:
                (heapq.heappush if len(heap) < SHOWN else heapq.heappushpop)(heap, (value, -number))

    def kinds(self) -> dict[str, list[int]]:
        """Return the numbers of the images by title, the least sure and those with most first; few images are all
        shown, once, and so are few that have labels."""
        found = {title: [-number for _, number in sorted(heap, reverse=True)] for title, heap in self._kinds.items()}
        found[RANDOM].sort()
        if self._all <= SHOWN:
            return {ALL: found[RANDOM]}
        if len(labeled := found[UNSURE]) < SHOWN:
            found = {RANDOM: found[RANDOM], LABELED.format(len(labeled), self._counted): labeled}
        return {title: kind for title, kind in found.items() if kind}


@dataclass(frozen=True)
class Sheet:
    """What a contact sheet shows.

    Args:
        verdict: what was written, in a sentence.
        classes: by name, the cells of the table that follow the name.
        head: the names of these cells.
        histograms: (K, SCORE_BINS) numbers of labels of each class by score, from 0 to 1.
        of: what the histograms are of.
        images: numbers of the images to show, by title.
        picture: returns an image's name and its panels.
        legend: labeled entries.
    """

    verdict: str
    head: Sequence[str]
    classes: Mapping[str, Sequence[str]]
    histograms: np.ndarray
    of: str
    images: Mapping[str, Sequence[int]]
    picture: Callable[[int], tuple[str, Sequence[Panel]]]
    legend: Sequence[Artist] = field(default_factory=tuple)


def threshold(score: float) -> str:
    """Return the score from which on a class has labels, in words; it may be infinite."""
    return f"{score:.3g}" if np.isfinite(score) else "no label"


def of_thresholds(labeling: Labeling) -> str:
    """Say how the threshold of each class was chosen."""
    if labeling.score is not None:
        return f"Threshold: a prediction with at least this score is a label ({SCORE_OPTION})."
    precision = read_way(labeling.choose)
    how = {
        F1: "F1 on DATASETS.TEST is best",
        FREQUENCIES: "labels are as frequent as in DATASETS.TRAIN",
    }.get(labeling.choose, f"{precision:.0%} of the predictions on DATASETS.TEST are right" if precision else "")
    return (
        f"Threshold: a prediction with at least this score is a label. It is chosen for each class, so that {how} "
        f'({option_of(labeling.choose)}). "no label": no score does that, and nothing is written for the class; '
        f"{SCORE_OPTION} S gives one threshold for all."
    )


def write_sheet(labeling: Labeling, sheet: Sheet, record: Mapping[str, Any]) -> Path:
    """Write the page into the output folder.

    Args:
        record: what labels.json holds.

    Returns:
        its file.
    """
    teachers = ", ".join(Path(teacher.file).parent.name or teacher.file for teacher in labeling.teachers)
    rows = [[name, *cells] for name, cells in sheet.classes.items()]
    shown: dict[int, str] = {}
    page = Page(
        title=f"Labels: {labeling.output.resolve().name}",
        subtitle=f"written by {teachers}",
        verdict=sheet.verdict,
        notes=[f"{remark}." for remark in remarks(record)],
        tables={"Classes": Table(["class", *sheet.head], rows, of_thresholds(labeling))},
        galleries={title: _gallery(sheet, numbers, shown) for title, numbers in sheet.images.items() if numbers},
        curves=_histograms(sheet),
        curves_title=f"Scores of {sheet.of}",
        command=this_command(),
        facts={"versions": versions()},
    )
    write_page(page, file := labeling.output / FILE)
    return file


def _gallery(sheet: Sheet, numbers: Sequence[int], shown: dict[int, str]) -> Gallery:
    """Return the pictures of images, and say how many cannot be read any more, and which ones are shown already.

    Args:
        shown: the names of images in the galleries before, by number; those of this one are added.
    """
    found, again = [], [shown[number] for number in numbers if number in shown]
    for number in numbers:
        if number not in shown:
            with suppress(OSError, ValueError, UserError):
                found.append(sheet.picture(number))
                shown[number] = found[-1][0]
    gone = len(numbers) - len(again) - len(found)
    said = [
        f"{gone} of {len(numbers)} cannot be read" if gone else "",
        f"{len(again)} of {len(numbers)} are shown above: {', '.join(again)}" if again else "",
    ]
    names, panels = [name for name, _ in found], [panels for _, panels in found]
    return Gallery(names, panels, sheet.legend if found else (), "; ".join(filter(None, said)))


def _histograms(sheet: Sheet) -> dict[str, str]:
    """Return a histogram as SVG of each class that has labels, the most frequent first, MANY at most."""
    names, counts = list(sheet.classes), sheet.histograms.sum(1)
    order = [number for number in np.argsort(-counts, kind="stable").tolist() if counts[number]][:MANY]
    return {names[number]: svg(partial(_draw, sheet.histograms[number])) for number in order}


def _draw(counts: np.ndarray, axis: Axes) -> None:
    edges = np.arange(SCORE_BINS) / SCORE_BINS
    axis.bar(edges, counts, 0.9 / SCORE_BINS, align="edge", color=COLORS[0])
    axis.set_xlim(0, 1)
    axis.set_xlabel("score")
    whole_ticks(axis.yaxis)
    axis.spines[["top", "right"]].set_visible(False)
