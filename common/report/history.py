"""Read OUTPUT_DIR/metrics.json of a run as one series for each metric."""

import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

GRADIENT = "gradient/"  # begins the name of a loss's share of the gradient
COSINE = "gradient_cosine"  # of the angle between distillation's gradient and the task's


class Point(NamedTuple):
    """A number after so many iterations, and seconds spent in training steps."""

    iteration: int
    seconds: float
    value: float


History = dict[str, list[Point]]


def read_history(folder: Path) -> History:
    """Read the series by name, as "total_loss", "lr", "bbox/AP"; empty before anything is written."""
    file = folder / "metrics.json"
    lines = list(_whole(file.read_text().splitlines())) if file.is_file() else []
    timed = [line for line in lines if "train_seconds" in line]
    if not timed:
        return {}
    clock = [[line["iteration"] + 1, line["train_seconds"]] for line in timed]
    at, seconds = np.array([[0, 0.0], *clock]).T
    history: History = defaultdict(list)
    for line in lines:
        # The last evaluation is written as if it were one iteration more.
        iteration = min(line["iteration"] + 1, int(at[-1]))
        spent = float(np.interp(iteration, at, seconds))
        for name, value in line.items():
            if name != "iteration":
                history[name].append(Point(iteration, spent, value))
    return dict(history)


def _whole(lines: list[str]) -> Iterator[dict[str, Any]]:
    """Yield all lines but one that was cut off when its process was killed."""
    for line in lines:
        with suppress(ValueError):
            yield json.loads(line)
