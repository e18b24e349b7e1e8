"""Several data sets in DATASETS.TEST: each has its scores, and the first one is what models are chosen by."""

from collections.abc import Callable, Sequence

from densedist.common.errors import UserError
from densedist.common.task import Results


def refuse_twins(names: Sequence[str]) -> None:
    """Make sure that no data set is named twice.

    Raises:
        UserError: one is.
    """
    if twice := [name for number, name in enumerate(names) if name in names[:number]]:
        raise UserError(f"DATASETS.TEST: data set {twice[0]} is named twice: name it once")


def evaluate_each(names: Sequence[str], evaluate: Callable[[str], Results]) -> Results:
    """The results of the only data set; of several, or none, by name."""
    results = {name: evaluate(name) for name in names}
    return next(iter(results.values())) if len(results) == 1 else results


def metric_of_first(names: Sequence[str], metric: str) -> str:
    """As its metric is logged: "bbox/AP", behind the first one's name if there are several."""
    return f"{names[0]}/{metric}" if len(names) > 1 else metric


def metric_of_each(names: Sequence[str], metric: str) -> list[str]:
    """Return the names by which the metric of each data set is logged.

    Args:
        metric: that of the first one (see metric_of_first).
    """
    return [metric] if len(names) < 2 else [f"{name}/{metric.removeprefix(f'{names[0]}/')}" for name in names]
