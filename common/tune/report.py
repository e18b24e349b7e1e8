"""A search in words and numbers: table.md, trials.json, and the config of the best choice."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tabulate import tabulate

from densedist.common.errors import UserError
from densedist.common.files import write_text
from densedist.common.tune.picture import draw
from densedist.common.tune.recipe import Recipe
from densedist.common.tune.rows import Row, importance, in_words, rows
from densedist.common.tune.space import Choice
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
        raise UserError(f"{output}: no trial has come to its end yet, so there is nothing to choose from")
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
    """The table, best first, with what matters within the best method; name is the metric's."""
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
