"""Plan all recipes for COCO and Cityscapes, and write the table and the picture of docs/plan.md.

uv run python docs/plan_page.py --keep FOLDER

takes about half a minute of a core for each recipe. The figures of each are kept in FOLDER; a later call plans those
that are not there.
"""

import argparse
import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tabulate import tabulate

from densedist.common.plan.cards import GIGA, TERA, find_card
from densedist.common.plan.picture import draw_plans
from densedist.common.plan.plan import AS_CONFIGURED, make_plan
from densedist.common.plan.report import figures
from densedist.tasks import task_named

PAGE = Path(__file__).with_name("plan.md")
CONFIGS = PAGE.parent.parent / "configs"
FOLDERS = ("det/coco", "seg/cityscapes")
BASES = ("base", "recipe")  # ends of names: others begin with these files
CARD, CARDS = "h100-80", 8
HALF, CACHED = "AMP in bfloat16", "cached teacher"


def recipes() -> list[str]:
    """Return the packaged configs of COCO and Cityscapes that can be trained."""
    files = sorted(file for folder in FOLDERS for file in (CONFIGS / folder).glob("*.yaml"))
    return [file.relative_to(CONFIGS).as_posix() for file in files if not file.stem.endswith(BASES)]


def planned(recipe: str) -> dict[str, Any]:
    """Return the figures of a recipe."""
    return figures(make_plan(task_named(recipe.partition("/")[0]), recipe, [], CARDS, find_card(CARD)))


def table(plans: Mapping[str, Mapping[str, Any]]) -> str:
    """Return docs/plan.md's table: a line for each recipe."""
    return tabulate([_line(*item) for item in plans.items()], headers="keys", tablefmt="github", disable_numparse=True)


def _line(recipe: str, plan: Mapping[str, Any]) -> dict[str, str]:
    ways = {way["title"]: way for way in plan["ways"]}
    first, half, both = (ways.get(name) for name in (AS_CONFIGURED, HALF, f"{HALF}, {CACHED}"))
    flops = sum(part["flops"] for part in plan["parts"].values())
    return {
        "recipe": f"`{recipe.removesuffix('.yaml')}`",
        "multiply-adds of a step, T": f"{flops / 2 / TERA:.2f}",
        "memory of a card, GB": _gigabytes(first),
        "with AMP": _gigabytes(half),
        "a step at least, ms": _number(first, "seconds", 1e3),
        "ms with AMP": _number(half, "seconds", 1e3),
        "and a cached teacher": _number(both, "seconds", 1e3),
        "the run at least, h": _number(first, "hours", 1),
        "h with both": _number(both or half, "hours", 1),
    }


def _gigabytes(way: Mapping[str, Any] | None) -> str:
    if way is None:
        return ""
    return " to ".join(dict.fromkeys(f"{way[name] / GIGA:.1f}" for name in ("memory", "memory of largest")))


def _number(way: Mapping[str, Any] | None, key: str, unit: float) -> str:
    return "" if way is None else f"{unit * way[key]:.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(description="plan all recipes for COCO and Cityscapes")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the figures of each recipe here")
    keep = parser.parse_args().keep
    plans = {}
    for number, recipe in enumerate(names := recipes(), 1):
        file = keep / recipe.replace("/", "_").replace(".yaml", ".json") if keep else None
        start = time.monotonic()
        if file is None or not file.is_file():
            plans[recipe] = planned(recipe)
            if file:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(json.dumps(plans[recipe], indent=2) + "\n")
        else:
            plans[recipe] = json.loads(file.read_text())
        print(f"{number} of {len(names)}: {recipe}, {time.monotonic() - start:.0f} s", flush=True)
    text = PAGE.read_text(encoding="utf-8")
    block = f"{table(plans)}\n\n![memory of a card and hours of the run, by their parts, for each recipe](plan.png)\n\n"
    text = re.sub(r"\| recipe .*?\n\n(!\[.*?\n\n)?", lambda _: block, text, count=1, flags=re.DOTALL)
    PAGE.write_text(text, encoding="utf-8")
    draw_plans({recipe.removesuffix(".yaml"): plan for recipe, plan in plans.items()}, PAGE.with_name("plan.png"))


if __name__ == "__main__":
    main()
