"""Pictures side by side, with one title and one legend."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from itertools import chain
from math import ceil
from pathlib import Path
from textwrap import fill
from typing import TypeVar

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from densedist.common.report.plots import columns_of_legend, draw_bars

HEIGHT = 2.4  # inches of a panel in an overview
SIDE = 2.0  # inches of a panel below bars
ACROSS = 5  # images side by side where there are many
CANDIDATES = 4  # for each picture of an overview so many images are looked at, where two models can differ
LETTERS = 10  # of a title, an inch
WIDTH, DPI = 2.5, 256  # inches of a panel by itself, and pixels an inch: what is written on it is read on a phone

T = TypeVar("T")


@dataclass(frozen=True)
class Panel:
    """A picture with its name.

    Args:
        picture: RGB (H, W, 3) of uint8.
        note: said above it, behind the name.
        over: draws on the axis that shows the picture.
    """

    picture: np.ndarray
    name: str
    note: str = ""
    over: Callable[[Axes], None] | None = None


@dataclass(frozen=True)
class Gallery:
    """Pictures of several images.

    Args:
        names: names of the images.
        columns: the panels of each image, with the same names in all.
        legend: labeled entries.
        title: which images these are, and what is marked.
    """

    names: Sequence[str]
    columns: Sequence[Sequence[Panel]]
    legend: Sequence[Artist]
    title: str


def furthest(
    items: Sequence[T], difference: Callable[[T], float], count: int, names: str, total: int
) -> tuple[list[T], str]:
    """Return those items in which two models differ most, the most first, and which images these are, in words.

    Args:
        difference: between the two, in one item.
        names: what the two are, as "teacher and student".
        total: number of test images, of which the items are some.
    """
    chosen = sorted(items, key=lambda item: -difference(item))[:count]
    if len(chosen) == total:
        return chosen, which_images(total, total) + f"; {names} differ most in the first" * (total > 1)
    shown = "the one" if len(chosen) == 1 else f"the {len(chosen)}"
    return chosen, f"{which_images(len(items), total)} were compared. Shown: {shown} in which {names} differ most"


def which_images(count: int, total: int) -> str:
    """Return which images are drawn, in words, where they are spread over all."""
    if total == 1:
        return "the only test image"
    return f"all {total} test images" if count == total else f"{count} of the {total} test images"


def encode(panel: Panel) -> bytes:
    """Return a panel, without its name and note, as a picture for a page: a PNG where it is small, else a JPEG."""
    high, wide = panel.picture.shape[:2]
    pixels = round(WIDTH * DPI), max(round(WIDTH * DPI * high / wide), 1)
    file = BytesIO()
    style = {"quality": 88, "subsampling": 0}
    if panel.over is None and wide <= pixels[0]:
        Image.fromarray(panel.picture).save(file, "PNG")
    elif panel.over is None:
        Image.fromarray(panel.picture).resize(pixels, Image.Resampling.LANCZOS).save(file, "JPEG", **style)
    else:
        figure = Figure(figsize=(WIDTH, pixels[1] / DPI))
        show(figure.add_axes((0, 0, 1, 1), aspect="auto"), panel.picture, panel.over)
        figure.savefig(file, dpi=DPI, format="jpeg", pil_kwargs=style)
    return file.getvalue()


def draw_overview(columns: Sequence[Sequence[Panel]], legend: Sequence[Artist], title: str, file: Path) -> None:
    """Draw a column for each image; the names of its panels, the same in all columns, stand on the left.

    Args:
        legend: the entries, labeled.
        file: the PNG to write; its folder is made.
    """
    with _canvas(list(zip(*columns, strict=True)), HEIGHT, legend, title, file) as lines:
        for axes in lines:
            axes[0][0].set_ylabel(axes[0][1].name, fontsize=11)
            for axis, panel in axes:
                axis.set_title(panel.note, fontsize=8.5)


def draw_side_by_side(lines: Sequence[Sequence[Panel]], legend: Sequence[Artist], title: str, file: Path) -> None:
    """Draw lines of large panels, equally many in each, named above.

    Args:
        legend: the entries, labeled.
        file: the PNG to write; its folder is made.
    """
    with _canvas(lines, 1.6 * HEIGHT, legend, title, file) as drawn:
        for axis, panel in chain.from_iterable(drawn):
            axis.set_title(f"{panel.name}: {panel.note}" if panel.note else panel.name, fontsize=11)


def draw_in_lines(columns: Sequence[Sequence[Panel]], legend: Sequence[Artist], title: str, file: Path) -> None:
    """Draw a column for each image, equally many panels in each, ACROSS of them side by side and the others below.

    Args:
        legend: the entries, labeled.
        file: the PNG to write; its folder is made.
    """
    blank = [Panel(np.full_like(panel.picture, 255), "") for panel in columns[0]]
    filled = [*columns, *[blank] * (-len(columns) % min(ACROSS, len(columns)))]
    groups = [filled[start : start + ACROSS] for start in range(0, len(filled), ACROSS)]
    draw_side_by_side([line for group in groups for line in zip(*group, strict=True)], legend, title, file)


def draw_with_bars(
    models: Mapping[str, Mapping[str, float]],
    lines: Mapping[str, Sequence[Panel]],
    file: Path,
    title: str = "",
    legend: Sequence[Artist] = (),
) -> None:
    """Draw metrics as bars, and below them lines of panels, equally many in each, named on the left.

    Args:
        models: metrics of each model in percent, as draw_bars takes them.
        title: stands above the panels.
        legend: the entries, labeled, below them.
        file: the PNG to write.
    """
    across, bars, below = len(next(iter(lines.values()))), 1.2 * SIDE, SIDE * len(lines)
    figure = Figure(figsize=(SIDE * across, bars + below), layout="constrained")
    rows = figure.add_gridspec(2, 1, height_ratios=[bars, below])
    upper, lower = figure.add_subfigure(rows[0]), figure.add_subfigure(rows[1])
    draw_bars(upper.subplots(), models)
    lower.suptitle(title)
    if legend:
        style = {"ncols": len(legend), "handlelength": 1, "columnspacing": 1}
        lower.legend(handles=list(legend), loc="outside lower center", **style)
    grid = lower.subplots(len(lines), across, squeeze=False)
    for axes, (name, panels) in zip(grid, lines.items(), strict=True):
        for axis, panel in zip(axes, panels, strict=True):
            show(axis, panel.picture, panel.over)
        axes[0].set_ylabel(name)
    figure.savefig(file, dpi=75)


@contextmanager
def _canvas(
    lines: Sequence[Sequence[Panel]], height: float, legend: Sequence[Artist], title: str, file: Path
) -> Iterator[list[list[tuple[Axes, Panel]]]]:
    """Give axes that show the panels, each of that height in inches; they become the file when the block ends."""
    shapes = [panel.picture.shape[:2] for panel in lines[0]]
    widths = [height * float(np.clip(wide / high, 0.5, 2.5)) for high, wide in shapes]
    columns = columns_of_legend([str(entry.get_label()) for entry in legend], sum(widths))
    rows, title = ceil(len(legend) / columns), fill(title, max(round(LETTERS * sum(widths)), 20))
    above = 0.3 + 0.2 * (title.count("\n") + 1)
    size = sum(widths) + 0.4, (height + 0.3) * len(lines) + above + 0.25 * rows
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(lines), len(widths), squeeze=False, gridspec_kw={"width_ratios": widths})
    for axis, panel in zip(grid.flat, chain.from_iterable(lines), strict=True):
        show(axis, panel.picture, panel.over)
    yield [list(zip(*line, strict=True)) for line in zip(grid, lines, strict=True)]
    figure.suptitle(title, fontsize=12)
    if legend:
        style = {"frameon": False, "handlelength": 1.2, "columnspacing": 1.2}
        figure.legend(handles=list(legend), loc="outside lower center", ncols=columns, **style)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=100)


def show(axis: Axes, picture: np.ndarray, over: Callable[[Axes], None] | None = None) -> None:
    """Show a picture (H, W, 3) on an axis, without ticks, and what is drawn over it."""
    axis.imshow(picture)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)
    if over is not None:
        over(axis)
