"""Trials as plain data, and how much each key matters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from densedist.common.tune.space import short
from densedist.common.tune.trials import PLACE, WHY

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

STATES = ("complete", "pruned", "running", "fail")  # in the order of the table


@dataclass(frozen=True)
class Row:
    """A trial as plain data.

    Args:
        number: number of the trial, and name of its folder.
        state: one of STATES.
        value: the mean over the seeds in percent; of a pruned one the last on the way.
        seeds: the value of each.
        iterations: length of a run.
        seconds: time spent in training steps, for all seeds.
        same_as: the trial that made the same choice before, whose values these are.
        why: it failed.
    """

    number: int
    state: str
    value: float | None
    method: str
    keys: Mapping[str, str]
    seeds: Mapping[str, float] = field(default_factory=dict)
    iterations: int = 0
    seconds: float = 0.0
    same_as: int | None = None
    why: str = ""

    def described(self) -> str:
        """Return the state of a trial, with its reason."""
        if self.same_as is not None:
            return f"{self.state}, as trial {self.same_as}"
        return f"failed: {self.why}" if self.why else self.state


def rows(trials: Sequence[FrozenTrial]) -> list[Row]:
    """Return a row for each trial, best first: finished, pruned, running, then failed ones."""
    names = ("method", "keys", "seeds", "iterations", "seconds", "same_as", WHY)
    found = []
    for trial in trials:
        attributes = trial.user_attrs
        about = {"method": "", "keys": {}} | {name: attributes[name] for name in names if name in attributes}
        found.append(Row(attributes.get(PLACE, trial.number), trial.state.name.lower(), trial.value, **about))
    return sorted(found, key=lambda row: (STATES.index(row.state), -(row.value or 0.0), row.number))


def line(found: Sequence[Row], number: int) -> str:
    """Return the log's line on a trial that has ended."""
    best, row = found[0], next(row for row in found if row.number == number)
    lead = "" if best.value is None else f"; best so far {best.value:.2f}, trial {best.number}"
    value = "" if row.value is None else f" {row.value:.2f}"
    return f"trial {row.number}, {row.method} {in_words(row.keys)}: {row.described()}{value}{lead}; {len(found)} ended"


def importance(trials: Sequence[FrozenTrial], method: str) -> dict[str, float]:
    """Compute how much each key of a method matters among its finished trials, as shares of 1, by optuna.importance.

    By fANOVA: with a few dozen trials Optuna's default gives weight to keys that have no effect.

    Returns:
        by key, the first matters most; empty where values do not differ, or nothing was chosen.
    """
    import optuna

    study = optuna.create_study(direction="maximize")
    study.add_trials([t for t in trials if t.state.name == "COMPLETE" and t.user_attrs["method"] == method])
    names = sorted({name for trial in study.trials for name in trial.params if name != "method"})
    if len({trial.value for trial in study.trials}) < 2 or not names:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    found = optuna.importance.get_param_importances(study, evaluator=evaluator, params=names)
    return {name.removeprefix(f"{method}:"): float(share) for name, share in found.items()}


def in_words(keys: Mapping[str, str]) -> str:
    """Return the value of each key, for people."""
    return ", ".join(f"{short(key)} {value}" for key, value in keys.items())
