"""What was done to which data, in a few words: the heading of a page."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

SIDES = {"TRAIN": "", "UNLABELED": " without labels", "PSEUDO_LABELED": " with labels that a teacher wrote"}
MOST = 3  # names that are given


def heading(config: Mapping[str, Any], taught: bool) -> str:
    """Return how a run trained, and on what: "distilled by DIST on photos_train, and on pool without labels".

    Args:
        config: the run's, as in its config.yaml.
        taught: it had a teacher.
    """
    losses = [
        name for name, node in config.get("DISTILL", {}).items() if isinstance(node, Mapping) and node.get("WEIGHT")
    ]
    how = "trained" if not taught else f"distilled by {listed(losses)}" if losses else "distilled"
    return f"{how}{on_data(config)}"


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
