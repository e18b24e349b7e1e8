"""A plan as tables, and as JSON."""

import json
from pathlib import Path
from typing import Any

from tabulate import tabulate

from densedist.common.data.headers import Size
from densedist.common.plan.cards import GIGA
from densedist.common.plan.plan import Plan
from densedist.common.plan.step import PARTS
from densedist.common.plan.ways import Way, least_seconds

NOTE = (
    "Computed, not measured. The times are lower bounds: each operator at the card's published peak or bandwidth, "
    "whichever is slower, as if nothing stayed in its cache. A real step takes longer; reading images, starting "
    "operators, the exchange between cards and evaluations come on top. The memory is what PyTorch allocates for "
    "tensors."
)


def print_plan(plan: Plan, file: Path | None, picture: Path | None = None) -> None:
    """Print a plan; write its figures to file as JSON, and draw them to a PNG."""
    way = plan.ways[0]
    images = f"{way.images} images of {_text(plan.size)} on each"
    passes = f", {way.passes} times a step" if way.passes > 1 else ""
    print(f"{way.cards} x {plan.card.title}, {images}{passes}\n")
    for table in (of_parts(plan), of_memory(plan), of_ways(plan)):
        print(tabulate(table, headers="keys", tablefmt="pipe", disable_numparse=True), end="\n\n")
    print(NOTE)
    if file:
        file.write_text(json.dumps(figures(plan), indent=2) + "\n")
    if picture:
        from densedist.common.plan.picture import draw_plans

        draw_plans({way.title: of_way(way, plan) for way in plan.ways}, picture)


def of_parts(plan: Plan) -> list[dict[str, str]]:
    """Return a row for each part of a step as the config says it, and their sum."""
    rows = {name: part for name, part in _parts(plan.ways[0], plan).items() if any(part.values())}
    rows["step"] = {figure: sum(part[figure] for part in rows.values()) for figure in ("flops", "moved", "seconds")}
    return [
        {
            "a step": name,
            "multiply-adds, G": f"{part['flops'] / 2 / GIGA:.1f}",
            "read and written, GB": f"{part['moved'] / GIGA:.2f}",
            "at least, ms": f"{1e3 * part['seconds']:.1f}",
        }
        for name, part in rows.items()
    ]


def of_memory(plan: Plan) -> list[dict[str, str]]:
    """Return a row for each thing that takes memory, and their sum; a column for the usual images and the largest."""
    way = plan.ways[0]
    factors = {f"images of {_text(plan.size)}": 1.0, f"a batch of {_text(plan.largest)}": plan.larger}
    rows: dict[str, dict[str, int]] = {name: dict.fromkeys(factors, size) for name, size in way.fixed.items()}
    worst = {column: way.worst(factor) for column, factor in factors.items()}
    rows["gradients"] = {column: peak.gradients for column, peak in worst.items()}
    rows["activations"] = {column: peak.total - peak.gradients for column, peak in worst.items()}
    rows[f"all, of {plan.card.memory / GIGA:.0f}"] = {column: way.memory(factor) for column, factor in factors.items()}
    return [
        {"memory of a card at the worst moment, GB": name, **{c: f"{size / GIGA:.2f}" for c, size in row.items()}}
        for name, row in rows.items()
    ]


def of_ways(plan: Plan) -> list[dict[str, str]]:
    """Return a row for each way: memory of a card, time of a step and of the run."""
    return [
        {
            "way": way.title,
            "memory of a card, GB": _memory(way, plan),
            "a step at least, ms": f"{1e3 * way.seconds(plan.card):.0f}",
            "the run at least, h": f"{way.hours(plan.card):.1f}",
        }
        for way in plan.ways
    ]


def figures(plan: Plan) -> dict[str, Any]:
    """Return all figures: bytes, seconds, hours, and two operations for each multiply-add."""
    first = plan.ways[0]
    return {
        "card": plan.card.title,
        "cards": first.cards,
        "images": first.images,
        "size": plan.size,
        "largest": plan.largest,
        **of_way(first, plan),
        "ways": [
            {
                "title": way.title,
                "images": way.images,
                "memory": way.memory(),
                "memory of largest": way.memory(plan.larger),
                "fits": way.fits(plan.card, plan.larger),
                "seconds": way.seconds(plan.card),
                "hours": way.hours(plan.card),
            }
            for way in plan.ways
        ],
    }


def of_way(way: Way, plan: Plan) -> dict[str, Any]:
    """Return the figures of a way by the parts of a step, and by what takes memory."""
    return {
        "iterations": way.iterations,
        "parts": _parts(way, plan),
        "memory": {**way.fixed, "gradients, complete": way.step.gradients, "worst": way.worst()._asdict()},
    }


def _parts(way: Way, plan: Plan) -> dict[str, dict[str, float]]:
    parts = {name: {"flops": 0.0, "moved": 0.0, "seconds": 0.0} for name in PARTS}
    for operator, factor in way.operators():
        part = parts[operator.part]
        part["flops"] += factor * operator.flops
        part["moved"] += factor * operator.moved
        part["seconds"] += factor * least_seconds(operator, plan.card)
    return parts


def _memory(way: Way, plan: Plan) -> str:
    sizes = dict.fromkeys(f"{way.memory(larger) / GIGA:.1f}" for larger in (1.0, plan.larger))
    return " to ".join(sizes) + ("" if way.fits(plan.card, plan.larger) else ", too much")


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
