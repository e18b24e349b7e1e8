"""Plans as a picture: the memory of a card and the time of a run, by their parts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from densedist.common.plan.cards import GIGA
from densedist.common.plan.step import PARTS
from densedist.common.plan.ways import HOUR

# The worst moment has what is fixed and what the step itself allocates.
GRADIENTS, ACTIVATIONS = "gradients", "activations"
MEMORY = (
    *("student's weights", "their average", "optimizer", "gradients on their way between cards", "teacher's weights"),
    *(GRADIENTS, ACTIVATIONS),
)
WIDTH, LINE, AROUND = 6.5, 0.24, 1.7  # inches: of a panel, of a bar, of titles, axis and legend


def draw_plans(plans: Mapping[str, Mapping[str, Any]], file: Path) -> None:
    """Draw a bar for each plan to a PNG, one below the other: memory beside hours.

    Args:
        plans: figures of report.of_way, by the name of the bar.
    """
    figure = Figure(figsize=(2 * WIDTH, LINE * len(plans) + AROUND), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    names = list(plans)
    _bars(left, names, {part: [memory(plan).get(part, 0) / GIGA for plan in plans.values()] for part in MEMORY})
    _bars(right, names, {part: [hours(plan)[part] for plan in plans.values()] for part in PARTS})
    left.invert_yaxis()
    left.set_title("memory of a card at the worst moment, GB")
    right.set_title("the run at least, hours")
    figure.suptitle("computed, not measured", fontsize=10)
    figure.savefig(file, dpi=90)


def memory(plan: Mapping[str, Any]) -> dict[str, int]:
    """Return the bytes of a card with images of the usual size, by what they are."""
    kinds = plan["memory"]
    worst = kinds["worst"]
    step = {GRADIENTS: worst["gradients"], ACTIVATIONS: worst["total"] - worst["gradients"]}
    return {name: size for name, size in kinds.items() if name in MEMORY} | step


def hours(plan: Mapping[str, Any]) -> dict[str, float]:
    """Return a lower bound of the hours of the run as the config says it, by the parts of a step."""
    return {name: plan["iterations"] * part["seconds"] / HOUR for name, part in plan["parts"].items()}


def _bars(axis: Axes, names: Sequence[str], parts: Mapping[str, Sequence[float]]) -> None:
    """Draw stacked bars, one for each name; parts that are 0 everywhere are left out."""
    before = [0.0] * len(names)
    for part, lengths in parts.items():
        if any(lengths):
            axis.barh(names, lengths, left=before, label=part)
            before = [x + length for x, length in zip(before, lengths, strict=True)]
    axis.margins(y=0.01)
    axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.06), ncols=2, frameon=False)
