"""A search as a picture: the value of each trial, what matters, and the value over each number that was chosen."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from densedist.common.tune.rows import Row
from densedist.common.tune.space import short

COLUMNS = 3


def draw(found: Sequence[Row], matters: Mapping[str, float], name: str, file: Path) -> None:
    """Draw the PNG.

    Args:
        found: best first, with one that has come to its end.
        matters: importance of each key of the best method.
        name: the metric's.
    """
    best = found[0]
    numbers = {key: pairs for key in best.keys if (pairs := _numbers(found, best.method, key))}
    count = 1 + bool(matters) + len(numbers)
    across = min(count, COLUMNS)
    down = math.ceil(count / across)
    figure = Figure(figsize=(5 * across, 4.2 * down), layout="constrained")
    axes = list(figure.subplots(down, across, squeeze=False).flat)
    _by_trial(axes[0], found, name)
    if matters:
        axes[1].barh(list(matters)[::-1], list(matters.values())[::-1], color="C0", alpha=0.7)
        axes[1].set_title(f"importance within {best.method}", fontsize=10)
    for axis, (key, pairs) in zip(axes[count - len(numbers) :], numbers.items(), strict=False):
        x, y = np.array(pairs).T
        axis.plot(x, y, "o", color="C0")
        if min(x) > 0 and max(x) > 10 * min(x):
            axis.set_xscale("log")
        axis.set_xlabel(f"{short(key)} of {best.method}")
        axis.set_ylabel(f"{name}, percent")
    for axis in axes:
        axis.set_visible(axis in axes[:count])
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=90)


def _by_trial(axis: Axes, found: Sequence[Row], name: str) -> None:
    """A dot for each trial in the color of its method, a cross where it was pruned, and the best so far as a line."""
    there = sorted((row for row in found if row.value is not None), key=lambda row: row.number)
    for number, method in enumerate(dict.fromkeys(row.method for row in there)):
        for state, marker in (("complete", "o"), ("pruned", "x")):
            points = [(row.number, row.value) for row in there if (row.method, row.state) == (method, state)]
            label = method if state == "complete" else f"{method}, pruned"
            if points:
                axis.plot(*zip(*points, strict=True), marker, color=f"C{number % 10}", label=label)
    finished = [(row.number, row.value) for row in there if row.state == "complete"]
    places, reached = zip(*finished, strict=True)
    axis.step(places, np.maximum.accumulate(reached), where="post", color="gray", label="best so far")
    axis.set_xlabel("trial")
    axis.set_ylabel(f"{name}, percent")
    axis.legend(fontsize=8)


def _numbers(found: Sequence[Row], method: str, key: str) -> list[tuple[float, float]]:
    """(value of a key, the metric) of each finished trial of a method; empty where these are no numbers, or all one."""
    finished = [row for row in found if row.method == method and row.state == "complete" and row.value is not None]
    try:
        pairs = [(float(row.keys[key]), float(row.value)) for row in finished if row.value is not None]
    except ValueError:
        return []
    return pairs if len({x for x, _ in pairs}) > 1 else []
