"""What was done to which data, in a few words: the heading of a page."""

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from densedist.common.distill.average import AVERAGE

TASKS = {"det": "Detection", "seg": "Segmentation"}
SIDES = {"TRAIN": "", "UNLABELED": " without labels", "PSEUDO_LABELED": " with labels that a teacher wrote"}
MOST = 3  # names that are given


def heading(config: Mapping[str, Any], model: str, taught: bool) -> str:
    """Return what a run trained, how, and on what, as "Segmentation: PSPNet, distilled by DIST from teacher on photos,
    and on pool without labels".

    Args:
        config: the run's, as in its config.yaml.
        model: the kind of what was trained.
        taught: it had a teacher.
    """
    losses = [
        name for name, node in config.get("DISTILL", {}).items() if isinstance(node, Mapping) and node.get("WEIGHT")
    ]
    how = "trained" if not taught else f"distilled by {listed(losses)}" if losses else "distilled"
    by_whom = f" from {_teacher(config)}" if taught else ""
    return f"{of_task(config)}: {model}, {how}{by_whom}{on_data(config)}"


def of_task(config: Mapping[str, Any]) -> str:
    """Return the task of a config, in a word."""
    task: str = config.get("TASK", "det")
    return TASKS.get(task, task)


def _teacher(config: Mapping[str, Any]) -> str:
    """Return the name of a config's teacher: the folder of its weights, or their last part."""
    node = config.get("DISTILL", {}).get("TEACHER", {})
    if (weights := str(node.get("WEIGHTS", ""))) == AVERAGE:
        return "its own average"
    place = Path(weights)
    name = (place.parent.name if place.suffix == ".pth" else "") or place.name or "a teacher"
    return listed([name, *["others"][: len(node.get("MORE") or [])]])


def on_data(config: Mapping[str, Any]) -> str:
    """Return " on" and the data sets of a config that are trained on; "" for none."""
    sets = {end: list(map(str, config.get("DATASETS", {}).get(side) or [])) for side, end in SIDES.items()}
    every = list(dict.fromkeys(chain.from_iterable(sets.values())))
    data = [f"{listed([_short(name, every) for name in names])}{end}" for end, names in sets.items() if names]
    return f" on {', and on '.join(data)}" if data else ""


def _short(name: str, every: Sequence[str]) -> str:
    """Return as few of the last folders of a data set's path as tell it from all others."""
    parts = name.rstrip("/").split("/")
    ends = ("/".join(parts[-count:]) for count in range(1, len(parts)))
    others = [f"/{other.rstrip('/')}" for other in every if other != name]
    return next((end for end in ends if not any(other.endswith(f"/{end}") for other in others)), name)


def listed(names: Sequence[str]) -> str:
    """Return the names, or the first ones and how many there are more."""
    more = [f"{len(names) - MOST} more"] if len(names) > MOST else []
    *first, last = [*names[:MOST], *more]
    return f"{', '.join(first)} and {last}" if first else last
