"""A comparison in numbers and pictures: results.json, a Markdown table ready to paste, curves and bars."""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from itertools import chain, product
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tabulate import tabulate

from densedist.common.compare.names import BEST, NONE
from densedist.common.compare.outcome import CONFIDENCE, Gain, Outcome, Values, gain, spread
from densedist.common.report.history import Point
from densedist.common.report.plots import legend_below, whole_ticks
from densedist.common.report.scores import AS_GOOD

# By method, by seed: the runs that have come to their end.
Outcomes = Mapping[str, Mapping[int, Outcome]]
APART = 0.1  # from this share on times are not equal
PERCENT = f"{100 * CONFIDENCE:.0f} %"
BEFORE = "before training"  # the column of Outcome.once


def values(outcomes: Mapping[int, Outcome], other: str = "") -> Values:
    """Return the metric in percent by seed, of a test set if one is named; undefined ones are left out."""
    numbers = {seed: o.others.get(other) if other else o.value for seed, o in outcomes.items()}
    return {seed: number for seed, number in numbers.items() if number is not None}


def others(outcomes: Outcomes) -> list[str]:
    """Return the names of further test sets."""
    return list(dict.fromkeys(name for of_seeds in outcomes.values() for o in of_seeds.values() for name in o.others))


def metric(outcomes: Outcomes) -> str:
    """Return the metric's name, with the test set's if there are several; "" before the first run has ended."""
    full = next((o.metric for of_seeds in outcomes.values() for o in of_seeds.values()), "")
    *test_set, _, name = ["", *full.rsplit("/", 2)]
    return f"{name} {''.join(test_set)}".strip()


def results(outcomes: Outcomes) -> dict[str, Any]:
    """Return all numbers as results.json holds them."""
    methods = {}
    for method, of_seeds in outcomes.items():
        methods[method] = {
            **_summary(method, outcomes),
            "others": {name: _summary(method, outcomes, name) for name in others(outcomes)},
            "seeds": {str(seed): asdict(outcome) for seed, outcome in of_seeds.items()},
        }
    return {"metric": metric(outcomes), "confidence": CONFIDENCE, "methods": methods}


def _summary(method: str, outcomes: Outcomes, other: str = "") -> dict[str, Any]:
    numbers = values(outcomes[method], other)
    over_none = gain(numbers, values(outcomes.get(NONE, {}), other)) if method != NONE else None
    return {
        "mean": statistics.mean(numbers.values()) if numbers else None,
        "standard_deviation": spread(numbers),
        "gain_over_none": over_none and asdict(over_none),
    }


def equal_time(outcomes: Outcomes) -> str:
    """Return the report's line on equal time, and by how much the methods missed it."""
    rule = "At equal time in training steps: cheaper methods have more iterations."
    seconds = {m: statistics.mean(o.seconds for o in of_seeds.values()) for m, of_seeds in outcomes.items() if of_seeds}
    ordered = sorted(seconds, key=lambda method: seconds[method])
    if not ordered or seconds[ordered[-1]] <= (1 + APART) * seconds[ordered[0]]:
        return rule
    least, most = (f"{method} {seconds[method]:.3g} s" for method in (ordered[0], ordered[-1]))
    why = "the machine did other work then, or while the pace was measured"
    return f"{rule} But the runs did not take equally long ({least}, {most}): {why}."


def markdown(outcomes: Outcomes, rule: str) -> str:
    """Return the table, and what can be concluded from it.

    Args:
        rule: by what the methods are made equal, for the first line.
    """
    head, rows = table(outcomes)
    drawn = tabulate(rows, head, tablefmt="pipe", disable_numparse=True)
    return f"{rule}\n\n{drawn}\n\n" + "\n".join(f"- {line}" for line in verdicts(outcomes))


def table(outcomes: Outcomes) -> tuple[list[str], list[list[str]]]:
    """Return the names of the columns, and a row for each method."""
    parts = method_columns(outcomes), _costs(outcomes), seed_columns(outcomes)
    rows = zip(*(rows for _, rows in parts), strict=True)
    return [name for head, _ in parts for name in head], [list(chain.from_iterable(row)) for row in rows]


def method_columns(outcomes: Outcomes) -> tuple[list[str], list[list[str]]]:
    """Return the columns of the table that say how good each method is, without empty ones behind the metric."""
    head = ["method", metric(outcomes), *others(outcomes), "gain over none", PERCENT]
    rows = [[method, *_scores(method, outcomes)] for method in outcomes]
    there = [number for number in range(len(head)) if number < 2 or any(row[number] for row in rows)]
    return [head[number] for number in there], [[row[number] for number in there] for row in rows]


def seed_columns(outcomes: Outcomes) -> tuple[list[str], list[list[str]]]:
    """Return the columns of the table that have the metric of each seed: "-" where it is undefined."""
    seeds = sorted({seed for runs in outcomes.values() for seed in runs})
    return [f"seed {seed}" for seed in seeds], [
        ["" if seed not in runs else _number(runs[seed].value) for seed in seeds] for runs in outcomes.values()
    ]


def takes_time_before(outcomes: Outcomes) -> bool:
    """Return whether a method has taken time before its first step."""
    return any(outcome.once for runs in outcomes.values() for outcome in runs.values())


def _scores(method: str, outcomes: Outcomes) -> list[str]:
    if not outcomes[method]:
        return [""] * (3 + len(others(outcomes)))
    numbers = values(outcomes[method])
    over_none = gain(numbers, values(outcomes.get(NONE, {}))) if method != NONE else None
    return [
        _mean(numbers),
        *(_mean(values(outcomes[method], name)) for name in others(outcomes)),
        f"{over_none.mean:+z.1f}" if over_none else "",
        interval(over_none) if over_none else "",
    ]


def _costs(outcomes: Outcomes) -> tuple[list[str], list[list[str]]]:
    head, rows = ["iterations", "training", *([BEFORE] if takes_time_before(outcomes) else [])], []
    for runs in (list(of_seeds.values()) for of_seeds in outcomes.values()):
        if not runs:
            rows.append([""] * len(head))
            continue
        iterations, seconds = statistics.mean(o.iterations for o in runs), statistics.mean(o.seconds for o in runs)
        before = max(o.once for o in runs)
        rows.append([f"{iterations:.0f}", f"{seconds:.0f} s", f"{before:.0f} s"][: len(head)])
    return head, rows


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _mean(numbers: Values) -> str:
    deviation = spread(numbers)
    if not numbers:
        return "-"
    return f"{statistics.mean(numbers.values()):.1f}" + ("" if deviation is None else f" ± {deviation:.1f}")


def verdicts(outcomes: Outcomes) -> list[str]:
    """Return what the numbers allow to conclude: of each method over none, on each test set, and of the best over the
    next."""
    gains = [
        (f"{method}{test_set and f' on {test_set}'}: {_words(over_none, NONE)}", over_none)
        for method, test_set in product(outcomes, ["", *others(outcomes)])
        if method != NONE
        and (over_none := gain(values(outcomes[method], test_set), values(outcomes.get(NONE, {}), test_set)))
    ]
    of_methods = {method: values(of_seeds) for method, of_seeds in outcomes.items()}
    means = {method: statistics.mean(numbers.values()) for method, numbers in of_methods.items() if numbers}
    first, *rest = sorted(means, key=lambda method: -means[method]) or [""]
    if rest and NONE not in (first, rest[0]) and (lead := gain(of_methods[first], of_methods[rest[0]])):
        gains.append((f"highest mean: {first}; {_words(lead, f'the next, {rest[0]}')}", lead))
    if not gains:
        return []
    seeds = [set(numbers) for numbers in of_methods.values() if numbers]
    unequal = "gains are over the seeds that both methods have" if any(s != seeds[0] for s in seeds) else ""
    note = (
        f"{PERCENT} intervals of the paired difference over seeds (Student's t), not corrected for multiple comparisons"
    )
    note = note if any(found.interval for _, found in gains) else ""
    return [*(line for line, _ in gains), *filter(None, [unequal, _of_rounding(outcomes), note])]


def _of_rounding(outcomes: Outcomes) -> str:
    """Say why a gain is not the difference of the scores next to it, where that is to be seen."""
    alone = values(outcomes.get(NONE, {}))
    for method, of_seeds in outcomes.items():
        numbers = values(of_seeds)
        if method == NONE or set(numbers) != set(alone) or not (found := gain(numbers, alone)):
            continue
        shown = [round(statistics.mean(of.values()), 1) for of in (numbers, alone)]
        if f"{found.mean:+z.1f}" != f"{shown[0] - shown[1]:+z.1f}":
            return "gains are of the scores before these are rounded"
    return ""


def extremes(outcomes: Outcomes) -> tuple[str, str] | None:
    """Return what to compare at first sight: none, or else the second best method, and the best method but none."""
    means = {method: statistics.mean(found.values()) for method, o in outcomes.items() if (found := values(o))}
    best, *rest = sorted(means.keys() - {NONE}, key=lambda method: -means[method]) or [""]
    before = NONE if NONE in means else next(iter(rest), "")
    return (before, best) if before and best else None


def verdict(outcomes: Outcomes) -> str:
    """Return the result in one sentence, with its interval where there are several seeds."""
    name, pair = metric(outcomes), extremes(outcomes)
    if pair is None:
        known = [
            f"{method} {statistics.mean(found.values()):.1f}" for method, o in outcomes.items() if (found := values(o))
        ]
        return f"{name}: {known[0]}; there is no other method to compare with." if known else "No run has a score."
    before, best = pair
    ours, theirs = (values(outcomes[method]) for method in (best, before))
    if (difference := gain(ours, theirs)) is None:
        return f"{best} and {before} have no seed in common."
    score = f"{name} {statistics.mean(number for seed, number in ours.items() if seed in theirs):.1f}"
    said = _apart(difference, _called(best), score, _called(before), others=len(outcomes) > 2)
    if difference.interval is None:
        return f"{said}, with one seed: this may be chance."
    seeds = f"{PERCENT} interval {interval(difference)}, {difference.seeds} seeds"
    if difference.is_significant:
        return f"{said} ({seeds})."
    return f"No significant difference: {said} ({seeds})."


def _called(method: str) -> str:
    """Return a method's name, and what it is where the name is a word of everyday English."""
    return {NONE: f"{NONE}, the student alone", BEST: f"{BEST}, the recommended method,"}.get(method, method)


def _apart(difference: Gain, best: str, score: str, before: str, others: bool) -> str:
    """Return how far the best method is from the one that it is compared with; what is worse is called so.

    Args:
        others: there are more methods, none of which is better.
    """
    points = f"{abs(difference.mean):.1f} points"
    if abs(difference.mean) < AS_GOOD:
        return f"{best} reaches {score}, the same as {before}"
    if difference.mean > 0:
        return f"{best} reaches {score}, {points} above {before}"
    if difference.interval and not difference.is_significant:
        return f"{best} reaches {score}, {points} worse than {before}"
    if others:
        return f"All methods are worse than {before}: the nearest, {best.rstrip(',')}, reaches {score}, {points} less"
    return f"{best} is worse than {before}: it reaches {score}, {points} less"


def _words(difference: Gain, other: str) -> str:
    points = f"{abs(difference.mean):.1f}"
    apart = f"{points} {'better' if difference.mean > 0 else 'worse'} than {other}"
    if float(points) == 0:
        apart = f"equal to {other} within 0.05"
    if difference.interval is None:
        return f"{apart} (one seed: this may be chance)"
    words = f"{apart} {interval(difference)}"
    return words if difference.is_significant else f"no significant difference: {words}"


def interval(difference: Gain) -> str:
    """Return an interval as "[+1.2, +3.4]"; empty with one seed."""
    return "" if difference.interval is None else "[{:+z.1f}, {:+z.1f}]".format(*difference.interval)


def draw(outcomes: Outcomes, file: Path) -> None:
    """Draw the PNG: lines are means over the seeds, shades reach from the lowest to the highest."""
    figure = Figure(figsize=(15, 4.5), layout="constrained")
    drawings = curves(outcomes)
    *lines, bars = figure.subplots(1, len(drawings) + 1)
    for axis, drawing in zip(lines, drawings.values(), strict=True):
        drawing(axis)
    there = _there(outcomes)
    for number, of_seeds in enumerate(there.values()):
        _bar(bars, number, of_seeds, f"C{number % 10}")
    bars.set_xticks(range(len(there)), list(there), rotation=20, ha="right")
    bars.set_ylabel(f"{metric(outcomes)}, percent")
    bars.set_title("at the end: mean ± standard deviation, dots = seeds", fontsize=10)
    bars.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=90)


def curves(outcomes: Outcomes) -> dict[str, Callable[[Axes], None]]:
    """Return what draws the metric of each method on an axis, by title."""

    def drawing(label: str, place: Callable[[Point], float]) -> Callable[[Axes], None]:
        return partial(_draw_curves, _there(outcomes), label, f"{metric(outcomes)}, percent", place)

    titles = {"iterations": lambda point: point.iteration, "seconds in training steps": lambda point: point.seconds}
    return {f"{metric(outcomes)} against {label}": drawing(label, place) for label, place in titles.items()}


def _there(outcomes: Outcomes) -> Outcomes:
    """Return the methods that have a score."""
    return {method: of_seeds for method, of_seeds in outcomes.items() if values(of_seeds)}


def _draw_curves(there: Outcomes, label: str, metric: str, place: Callable[[Point], float], axis: Axes) -> None:
    for number, (method, of_seeds) in enumerate(there.items()):
        _curve(axis, method, of_seeds, f"C{number % 10}", place)
    axis.set_xlabel(label)
    axis.set_ylabel(metric)
    whole_ticks(axis.xaxis)
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    if there:
        legend_below(axis)


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
