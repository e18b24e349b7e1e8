"""The report of a search: table.md, trials.json, search.png, and the config of the best choice."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tabulate import tabulate

from densedist.common.errors import UserError
from densedist.common.files import write_text
from densedist.common.tune.recipe import Recipe
from densedist.common.tune.rows import Row, importance, in_words, rows
from densedist.common.tune.space import Choice, short
from densedist.common.tune.trials import Trials


def write(trials: Trials, recipe: Recipe, output: Path, metric: str, chosen_on: str) -> dict[str, Any]:
    """Write table.md, trials.json, search.png and best.yaml, and print the table.

    Args:
        metric: e.g. "bbox/AP".
        chosen_on: data, budget and seeds, for the first line.

    Returns:
        the best trial's number, method, keys and value, and where best.yaml is, as "config".

    Raises:
        UserError: no trial has come to its end.
    """
    counted = trials.counted()
    found = rows(counted)
    best = found[0] if found else None
    if best is None or best.state != "complete":
        raise UserError(f"{output}: no trial has finished yet, so there is nothing to choose from")
    matters = importance(counted, best.method)
    name = metric.rpartition("/")[2]
    config = output / "best.yaml"
    result = {key: getattr(best, key) for key in ("number", "method", "keys", "value")} | {"config": str(config)}
    data = {"metric": metric, "chosen_on": chosen_on, "best": result, "importance": matters}
    write_text(config, recipe.final(Choice(best.method, best.keys)))
    write_text(output / "trials.json", json.dumps(data | {"trials": [asdict(row) for row in found]}, indent=2) + "\n")
    text = markdown(found, matters, name, chosen_on)
    write_text(output / "table.md", text + "\n")
    draw(found, matters, name, output / "search.png")
    print(f"\n{text}")
    return result


def markdown(found: Sequence[Row], matters: Mapping[str, float], name: str, chosen_on: str) -> str:
    """Return the table, best first, and which keys matter within the best method; name is the metric's."""
    head = ["trial", name, "state", "method", "keys", "iterations", "training"]
    body = [
        [
            str(row.number),
            "-" if row.value is None else f"{row.value:.2f}",
            row.described(),
            row.method,
            in_words(row.keys),
            str(row.iterations or ""),
            f"{row.seconds:.0f} s" if row.seconds else "",
        ]
        for row in found
    ]
    table = tabulate(body, head, tablefmt="pipe", disable_numparse=True)
    done = [row for row in found if row.state == "complete"]
    bests: dict[str, str] = {}
    for row in done:
        bests.setdefault(row.method, f"{row.method} {row.value:.2f}")
    lines = [f"- best of each method: {', '.join(bests.values())}"] if len(bests) > 1 else []
    if matters:
        shares = ", ".join(f"{key} {share:.2f}" for key, share in matters.items())
        count = sum(row.method == done[0].method for row in done)
        lines.append(f"- importance within {done[0].method}, of {count} finished trials: {shares}")
    lines.append("- the best of many is partly luck: train best.yaml with other seeds, and look at test data once")
    return f"Chosen on {chosen_on}.\n\n{table}\n\n" + "\n".join(lines)


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
    """Draw a dot for each trial in the color of its method, a cross where it was pruned, and the best so far."""
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
    """Return (value of a key, metric) of each finished trial of a method; empty unless these are different numbers."""
    finished = [row for row in found if row.method == method and row.state == "complete" and row.value is not None]
    try:
        pairs = [(float(row.keys[key]), float(row.value)) for row in finished if row.value is not None]
    except ValueError:
        return []
    return pairs if len({x for x, _ in pairs}) > 1 else []
