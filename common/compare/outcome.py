"""The outcome of a run, from the files in its folder, and the gain over several seeds."""

import json
import math
import statistics
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scipy.stats import ttest_rel

from densedist.common.report.history import Point, read_history

CONFIDENCE = 0.95

# A metric in percent by seed.
Values = Mapping[int, float]


@dataclass(frozen=True)
class Outcome:
    """A trained model's metric in percent, and the way there.

    Args:
        metric: e.g. "bbox/AP": the first of results.json, which its field compares by.
        value: None where it is undefined.
        seconds: spent in training steps.
        curve: the metric at each evaluation where it is defined, the last one included.
        others: the value on further test sets, by name.
        once: seconds that were spent before the first step, e.g. on a cache of the teacher's logits, by this run or
            another one.
    """

    metric: str
    value: float | None
    iterations: int
    seconds: float
    curve: list[Point]
    others: Mapping[str, float | None] = field(default_factory=dict)
    once: float = 0.0


def outcome(folder: Path, iterations: int) -> Outcome | None:
    """Read the outcome of a run of so many iterations; None if it has not ended."""
    history = read_history(folder)
    if not history or not (folder / "results.json").is_file():
        return None
    metrics = _first_metrics(json.loads((folder / "results.json").read_text()))
    if not metrics:
        return None
    metric, *others = metrics
    # The results of an evaluation on the way are there, too, when a run is interrupted.
    curve = {point.iteration: point for point in history.get(metric, [])}
    last = curve.get(iterations)
    return last and Outcome(
        metric,
        _defined(last.value),
        iterations,
        last.seconds,
        [point for point in curve.values() if _defined(point.value) is not None],
        {name.rsplit("/", 2)[0]: _defined(history[name][-1].value) for name in others},
        history["once_seconds"][-1].value if "once_seconds" in history else 0.0,
    )


def _defined(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def _first_metrics(results: Mapping[str, Any]) -> list[str]:
    """Return the name of the first metric, as "bbox/AP"; with several test sets one for each, "NAME/bbox/AP"."""
    groups = [(name, scores) for name, scores in results.items() if scores]
    if not groups:
        return []
    first = next(iter(groups[0][1].values()))
    if not isinstance(first, Mapping):
        return [f"{groups[0][0]}/{next(iter(groups[0][1]))}"]
    return [f"{name}/{metric}" for name, result in groups for metric in _first_metrics(result)]


@dataclass(frozen=True)
class Gain:
    """The gain of one method over another with the same seeds.

    Args:
        mean: mean of the differences.
        interval: by Student's t at CONFIDENCE, for normally distributed differences; None for fewer than two seeds.
        seeds: how many both have.
    """

    mean: float
    interval: tuple[float, float] | None
    seeds: int

    @property
    def is_significant(self) -> bool:
        """Return whether the interval leaves 0 out."""
        return self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]


def gain(values: Values, over: Values) -> Gain | None:
    """Compute the paired gain; None without a seed that both have."""
    seeds = sorted(set(values) & set(over))
    if not seeds:
        return None
    mean = statistics.mean(values[seed] - over[seed] for seed in seeds)
    if len(seeds) < 2:
        return Gain(mean, None, len(seeds))
    with warnings.catch_warnings():  # differences that are all alike
        warnings.simplefilter("ignore", RuntimeWarning)
        test = ttest_rel([values[seed] for seed in seeds], [over[seed] for seed in seeds])
        low, high = test.confidence_interval(CONFIDENCE)
    return Gain(mean, (float(low), float(high)), len(seeds))


def spread(values: Values) -> float | None:
    """Compute the standard deviation (n - 1); None for fewer than two seeds."""
    return statistics.stdev(values.values()) if len(values) > 1 else None
