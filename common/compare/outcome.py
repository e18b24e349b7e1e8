"""What a training came to, from the files in its folder."""

import json
from dataclasses import dataclass
from pathlib import Path

from densedist.common.report.history import Point, read


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


#### MERGED FROM common.compare.statistics
"""Mean, spread and paired gain of a metric over seeds."""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from scipy.stats import t

CONFIDENCE = 0.95

# A metric in percent by seed.
Values = Mapping[int, float]


@dataclass(frozen=True)
class Gain:
    """Of one method over another with the same seeds.

    Args:
        mean: of the differences.
        interval: of Student's t at CONFIDENCE, for differences that scatter normally; None below two seeds.
        seeds: how many both have.
    """

    mean: float
    interval: tuple[float, float] | None
    seeds: int

    @property
    def is_significant(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]


def gain(values: Values, over: Values) -> Gain | None:
    """The gain, None without a seed that both have."""
    seeds = sorted(set(values) & set(over))
    if not seeds:
        return None
    differences = [values[seed] - over[seed] for seed in seeds]
    mean, count = statistics.mean(differences), len(differences)
    if count < 2:
        return Gain(mean, None, count)
    half = float(t.ppf((1 + CONFIDENCE) / 2, count - 1)) * statistics.stdev(differences) / math.sqrt(count)
    return Gain(mean, (mean - half, mean + half), count)


def spread(values: Values) -> float | None:
    """Standard deviation (n - 1); None below two seeds."""
    return statistics.stdev(values.values()) if len(values) > 1 else None
