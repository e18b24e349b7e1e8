"""A comparison in words and numbers: results.json, and a Markdown table ready to paste."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tabulate import tabulate

from densedist.common.compare.methods import NONE
from densedist.common.compare.outcome import CONFIDENCE, Gain, Outcome, Values, gain, spread

# By method, by seed: the runs that have come to their end.
Outcomes = Mapping[str, Mapping[int, Outcome]]
PERCENT = f"{100 * CONFIDENCE:.0f} %"


def values(outcomes: Mapping[int, Outcome]) -> Values:
    """The metric in percent by seed."""
    return {seed: outcome.value for seed, outcome in outcomes.items()}


def metric(outcomes: Outcomes) -> str:
    """Its name, "" before the first run has ended."""
    return next((o.metric.rpartition("/")[2] for of_seeds in outcomes.values() for o in of_seeds.values()), "")


def results(outcomes: Outcomes) -> dict[str, Any]:
    """All numbers, as results.json holds them."""
    methods = {}
    for method, of_seeds in outcomes.items():
        numbers = values(of_seeds)
        over_none = gain(numbers, values(outcomes.get(NONE, {}))) if method != NONE else None
        methods[method] = {
            "mean": statistics.mean(numbers.values()) if numbers else None,
            "standard_deviation": spread(numbers),
            "gain_over_none": over_none and asdict(over_none),
            "seeds": {str(seed): asdict(outcome) for seed, outcome in of_seeds.items()},
        }
    return {"metric": metric(outcomes), "confidence": CONFIDENCE, "methods": methods}


def markdown(outcomes: Outcomes, rule: str) -> str:
    """The table with what can be said of it.

    Args:
        rule: by what the methods are made equal, for the first line.
    """
    seeds = sorted({seed for of_seeds in outcomes.values() for seed in of_seeds})
    head = [
        "method",
        metric(outcomes),
        "gain over none",
        PERCENT,
        "iterations",
        "training",
        *(f"seed {s}" for s in seeds),
    ]
    body = [_row(method, outcomes, seeds) for method in outcomes]
    table = tabulate(body, head, tablefmt="pipe", disable_numparse=True)
    return f"{rule}\n\n{table}\n\n" + "\n".join(f"- {line}" for line in verdicts(outcomes))


def _row(method: str, outcomes: Outcomes, seeds: Sequence[int]) -> list[str]:
    of_seeds = outcomes[method]
    if not of_seeds:
        return [method]
    numbers = values(of_seeds)
    deviation = spread(numbers)
    mean = f"{statistics.mean(numbers.values()):.1f}" + ("" if deviation is None else f" ± {deviation:.1f}")
    over_none = gain(numbers, values(outcomes.get(NONE, {}))) if method != NONE else None
    return [
        method,
        mean,
        f"{over_none.mean:+.1f}" if over_none else "",
        _interval(over_none) if over_none else "",
        f"{statistics.mean(o.iterations for o in of_seeds.values()):.0f}",
        f"{statistics.mean(o.seconds for o in of_seeds.values()):.0f} s",
        *(f"{numbers[seed]:.1f}" if seed in numbers else "" for seed in seeds),
    ]


def verdicts(outcomes: Outcomes) -> list[str]:
    """What the numbers allow to say: of each method over none, and of the best over the next."""
    lines = [
        f"{method}: {_words(over_none)} than none"
        for method in outcomes
        if method != NONE and (over_none := gain(values(outcomes[method]), values(outcomes.get(NONE, {}))))
    ]
    means = {method: statistics.mean(values(of_seeds).values()) for method, of_seeds in outcomes.items() if of_seeds}
    first, *others = sorted(means, key=lambda method: -means[method]) or [""]
    if (
        others
        and NONE not in (first, others[0])
        and (lead := gain(values(outcomes[first]), values(outcomes[others[0]])))
    ):
        lines.append(f"highest mean: {first}; {_words(lead)} than the next, {others[0]}")
    note = f"{PERCENT} intervals of the paired difference over seeds (Student's t), each by itself"
    return [*lines, note] if lines else []


def _words(difference: Gain) -> str:
    better = f"{abs(difference.mean):.1f} {'better' if difference.mean >= 0 else 'worse'}"
    if difference.interval is None:
        return f"{better}, with one seed, which says nothing of chance,"
    if difference.is_significant:
        return f"{better} {_interval(difference)}"
    return f"no significant difference: {better} {_interval(difference)}"


def _interval(difference: Gain) -> str:
    return "" if difference.interval is None else "[{:+.1f}, {:+.1f}]".format(*difference.interval)
