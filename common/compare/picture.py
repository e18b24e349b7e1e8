"""A comparison as curves, against iterations and against time, and as bars."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from densedist.common.compare.outcome import Outcome
from densedist.common.compare.report import Outcomes, metric, values
from densedist.common.report.history import Point


def draw(outcomes: Outcomes, file: Path) -> None:
    """Draw the PNG: lines are means over the seeds, shades reach from the lowest to the highest."""
    there = {method: of_seeds for method, of_seeds in outcomes.items() if values(of_seeds)}
    figure = Figure(figsize=(15, 4.5), layout="constrained")
    by_iteration, by_time, bars = figure.subplots(1, 3)
    for number, (method, of_seeds) in enumerate(there.items()):
        color = f"C{number % 10}"
        _curve(by_iteration, method, of_seeds, color, lambda point: point.iteration)
        _curve(by_time, method, of_seeds, color, lambda point: point.seconds)
        _bar(bars, number, of_seeds, color)
    for axis, label in ((by_iteration, "iterations"), (by_time, "seconds in training steps")):
        axis.set_xlabel(label)
        axis.set_ylabel(f"{metric(outcomes)}, percent")
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    if there:
        by_iteration.legend()
    bars.set_xticks(range(len(there)), list(there), rotation=20, ha="right")
    bars.set_ylabel(f"{metric(outcomes)}, percent")
    bars.set_title("at the end: mean ± standard deviation, dots = seeds", fontsize=10)
    for axis in (by_iteration, by_time, bars):
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=90)


def _curve(
    axis: Axes, label: str, of_seeds: Mapping[int, Outcome], color: str, place: Callable[[Point], float]
) -> None:
    curves = [{point.iteration: point for point in o.curve} for o in of_seeds.values() if o.value is not None]
    # Seeds share them, unless the period was changed between them or a score on the way is undefined.
    shared = sorted(set.intersection(*map(set, curves)))
    x = np.mean([[place(curve[iteration]) for iteration in shared] for curve in curves], 0)
    y = np.array([[curve[iteration].value for iteration in shared] for curve in curves])
    axis.plot(x, y.mean(0), color=color, label=label, marker="o", markersize=3)
    axis.fill_between(x, y.min(0), y.max(0), color=color, alpha=0.2, linewidth=0)


def _bar(axis: Axes, place: int, of_seeds: Mapping[int, Outcome], color: str) -> None:
    numbers = list(values(of_seeds).values())
    deviation = np.std(numbers, ddof=1) if len(numbers) > 1 else None
    axis.bar(place, np.mean(numbers), 0.7, color=color, alpha=0.7, yerr=deviation, capsize=4)
    axis.plot(np.linspace(place - 0.15, place + 0.15, len(numbers)), numbers, "o", color="black", markersize=3)
