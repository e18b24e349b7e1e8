"""The page that a run leaves: report.html, with everything in it."""

import base64
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from densedist.common.files import write_text
from densedist.common.report.history import Point, read_history
from densedist.common.report.plots import draw_curves

GROUPS = {"bbox": "boxes", "segm": "masks"}  # of metrics; of others the group is not said


def write_report(folder: Path, plan: str, metric: str, machine: str, examples: Path | None = None) -> None:
    """Draw folder/curves.png and write folder/report.html, from what the run wrote there.

    Args:
        folder: OUTPUT_DIR with config.yaml, metrics.json and results.json.
        plan: what was to be done.
        metric: which one the curve shows.
        machine: on what it was done.
        examples: a PNG of test images.
    """
    history = read_history(folder)
    clock = history.get("train_seconds")
    if not clock:  # it ended before anything was written
        return
    drawn = folder / "curves.png"
    draw_curves(history, metric, drawn)
    results = json.loads((folder / "results.json").read_text())
    page = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True).get_template("page.html")
    text = page.render(
        title=folder.resolve().name,
        iterations=clock[-1].iteration,
        seconds=clock[-1].seconds,
        machine=machine,
        plan=plan,
        results=[(in_words(name), value) for name, value in _flat(results)],
        best=_best(history.get(metric, ()), metric),
        curves=_inline(drawn),
        examples=_inline(examples) if examples else None,
        config=(folder / "config.yaml").read_text(),
    )
    write_text(folder / "report.html", text)


def _flat(results: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """("bbox/AP", "40.1") of {"bbox": {"AP": 40.1}}; "-" where a number is undefined."""
    for name, value in results.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}/")
        else:
            yield prefix + name, "-" if value is None else f"{value:.1f}"


def in_words(name: str) -> str:
    """ "IoU, road" of "sem_seg/IoU-road"; "AP of boxes, car" of "bbox/AP-car", also behind a data set's name."""
    *groups, last = name.split("/")
    score, _, of_class = last.partition("-")
    group = groups[-1] if groups else ""
    what = f"{score} of {GROUPS[group]}" if GROUPS.get(group) else score
    return ", ".join(filter(None, [*groups[:-1], what, of_class]))


def _best(points: Sequence[Point], metric: str) -> str:
    """Where the metric was highest."""
    finite = [point for point in points if math.isfinite(point.value)]
    if not finite:
        return ""
    best = max(finite, key=lambda point: point.value)
    return f"the highest {in_words(metric)} is {best.value:.1f}, after {best.iteration} iterations"


def _inline(picture: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode()
