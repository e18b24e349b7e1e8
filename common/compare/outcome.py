"""What a training came to, from the files in its folder."""

import json
from dataclasses import dataclass
from pathlib import Path

from common.history import Point, read


@dataclass(frozen=True)
class Outcome:
    """A trained model's metric in percent, and the way there.

    Args:
        metric: e.g. "bbox/AP": the first of results.json, which its field compares by.
        seconds: spent in training steps.
        curve: the metric at each evaluation, the last one included.
    """

    metric: str
    value: float
    iterations: int
    seconds: float
    curve: list[Point]


def outcome(folder: Path, iterations: int) -> Outcome | None:
    """Of a training that was to take so many iterations; None if it has not come to its end."""
    history = read(folder)
    if not history or not (folder / "results.json").is_file():
        return None
    group, numbers = next(iter(json.loads((folder / "results.json").read_text()).items()))
    metric = f"{group}/{next(iter(numbers))}"
    # The results of an evaluation on the way are there, too, when a training is interrupted.
    curve = {point.iteration: point for point in history.get(metric, [])}
    last = curve.get(iterations)
    return last and Outcome(metric, last.value, iterations, last.seconds, list(curve.values()))
