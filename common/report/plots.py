"""Plots: what a run did against its iterations, and metrics of several models as bars."""

import re
from collections.abc import Callable, Mapping, Sequence
from io import StringIO
from math import ceil
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter, SymmetricalLogLocator

from densedist.common.report.history import COSINE, GRADIENT, History
from densedist.common.report.losses import TOTAL, in_words
from densedist.common.report.scores import in_words as score_in_words

COLORS = ("#2563eb", "#93c5fd")
PLAIN = "#000000"  # what is alone on an axis, and a sum; on a page it has the color of the text
LINES = 10  # colors of matplotlib's cycle
WIDE, HIGH = 4.6, 3.0  # inches of a drawing on a page, without its legend
BESIDE, BELOW = 0.13, 0.16  # where its axis begins, as shares of these
LETTERS, LINE = 9, 0.2  # points of a legend's letters, and inches of a line of it
SHARES = "each loss's share of the gradient, percent"  # see common/engine/gradients.py
ANGLE = "agreement of distillation's and labels' gradients: cosine"
PERCENT = "{}, percent"
RATE = "learning rate"
LINEAR = 0.1  # losses below are drawn to scale, above by their logarithm


def draw_curves(history: History, metric: str, losses: Mapping[str, str], file: Path) -> None:
    """Draw losses, learning rate and metric against iterations to a PNG.

    Args:
        metric: the one by which the best checkpoint is chosen, e.g. "bbox/AP", in percent.
        losses: the task's in words, as TrainingTask.losses.
    """
    panels = _panels(history, metric)
    figure = Figure(figsize=(5 * len(panels), 4), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)
    for axis, (title, names) in zip(axes[0], panels.items(), strict=True):
        _panel(axis, title, names, history, losses)
    figure.savefig(file, dpi=90)


def curves(history: History, metric: str, losses: Mapping[str, str]) -> dict[str, str]:
    """Return the same by title, as SVG for a page.

    Args:
        metric, losses: see draw_curves.
    """

    def drawing(title: str, names: Sequence[str]) -> Callable[[Axes], None]:
        return lambda axis: _panel(axis, title, names, history, losses, titled=False)

    return {title: svg(drawing(title, names)) for title, names in _panels(history, metric).items()}


def svg(draw: Callable[[Axes], None]) -> str:
    """Return what draw() puts on an axis as an SVG element in the colors of the page around it, wide as its place."""
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "page"}):
        figure, file = Figure(figsize=(WIDE, HIGH)), StringIO()
        # A layout that is computed takes most of the time. On the right half of the last number stands beyond the axis.
        draw(axis := figure.add_axes((BESIDE, BELOW, 0.83, 0.8)))
        if legend := axis.get_legend():
            names = [text.get_text() for text in legend.get_texts()]
            more = LINE * ceil(len(names) / columns_of_legend(names, WIDE, LETTERS)) + 0.1
            figure.set_size_inches(WIDE, HIGH + more)
            axis.set_position((BESIDE, (BELOW * HIGH + more) / (HIGH + more), 0.83, 0.8 * HIGH / (HIGH + more)))
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    text = re.sub(r"(<svg[^>]*?) width=\"[^\"]*\"", r"\1", re.sub(r"(<svg[^>]*?) height=\"[^\"]*\"", r"\1", text))
    return text[max(text.find("<svg"), 0) :].replace("#000000", "currentColor")


def legend_below(axis: Axes) -> None:
    """Name the lines of an axis below it, where they are not covered."""
    entries = axis.get_legend_handles_labels()
    columns = columns_of_legend(entries[1], WIDE, LETTERS)
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (0, -BELOW / 0.8), "borderaxespad": 0}
    axis.legend(*entries, ncols=columns, fontsize=LETTERS, frameon=False, columnspacing=1.2, **place)


def columns_of_legend(labels: Sequence[str], width: float, size: float = 10) -> int:
    """Return how many columns of a legend's entries, filled from top to bottom, fit into a width in inches.

    Args:
        size: of the letters, in points.
    """
    needed = [size / 10 * (0.5 + 0.085 * len(label)) for label in labels]
    fitting = (n for n in range(len(needed), 1, -1) if sum(map(max, np.array_split(needed, n))) <= width)
    return next(fitting, 1)


def _panels(history: History, metric: str) -> dict[str, list[str]]:
    """Return the names of the series by title of the panel."""
    losses = sorted(name for name in history if name.startswith("loss"))
    shares = sorted(name for name in history if name.startswith(GRADIENT))
    panels = {
        "losses": [TOTAL, *losses],
        SHARES: shares,
        ANGLE: [COSINE],
        RATE: ["lr"],
        PERCENT.format(score_in_words(metric)): [metric],
    }
    there = {title: [name for name in names if name in history] for title, names in panels.items()}
    return {title: names for title, names in there.items() if names}


def _panel(
    axis: Axes, title: str, names: Sequence[str], history: History, losses: Mapping[str, str], titled: bool = True
) -> None:
    for name in names:
        points, label = history[name], in_words(name.removeprefix(GRADIENT), losses)
        style: dict[str, Any] = {"marker": "o" if len(points) < 20 else None, "markersize": 3, **_line(name, history)}
        axis.plot([p.iteration for p in points], [p.value for p in points], label=label, **style)
    if len(names) > 1:
        legend_below(axis)
    if title == SHARES:
        axis.set_ylim(0, 100)
    elif title == ANGLE:
        axis.set_ylim(-1, 1)
    elif len(names) > 1:
        # A task's losses and distillation's may be far apart; what is 0 at times has no logarithm.
        axis.set_yscale("symlog", linthresh=LINEAR)
        axis.yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=LINEAR, subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    if title == RATE:
        axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))  # no factor above the axis, where the title is
    if title == PERCENT.format(score_in_words(names[0])):
        axis.set_ylim(bottom=0)  # or a tenth of a point would look like a rise
    if titled:
        axis.set_title(title)
    axis.set_xlabel("iterations")
    whole_ticks(axis.xaxis)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)


def _line(name: str, history: History) -> dict[str, str]:
    """Return the color and style of a series: a loss has the same on all axes, and what is no loss is plain."""
    losses = sorted({key.removeprefix(GRADIENT) for key in history if key.startswith(("loss", GRADIENT))})
    if (loss := name.removeprefix(GRADIENT)) not in losses:
        return {"color": PLAIN}
    number = losses.index(loss)
    return {"color": f"C{number % LINES}", "linestyle": "-" if number < LINES else "--"}


def whole_ticks(axis: Axis) -> None:
    """Put ticks on an axis of counts at whole numbers only."""
    axis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))


def draw_bars(axis: Axes, models: Mapping[str, Mapping[str, float]]) -> None:
    """Draw for each model by name up to two metrics by name, in percent, as horizontal bars."""
    places = np.arange(len(models))
    metrics = list(next(iter(models.values())))[: len(COLORS)]
    height = 0.8 / len(metrics)
    for number, (metric, color) in enumerate(zip(metrics, COLORS, strict=False)):
        offset = (number - (len(metrics) - 1) / 2) * height
        values = [model[metric] for model in models.values()]
        drawn = axis.barh(places + offset, values, 0.95 * height, label=metric, color=color)
        axis.bar_label(drawn, fmt="%.1f", padding=3)
    axis.set_yticks(places, list(models))
    axis.invert_yaxis()
    axis.set_xlim(0, 100)
    axis.set_xlabel("percent, test split")
    axis.legend(loc="lower right")
    axis.spines[["top", "right"]].set_visible(False)
