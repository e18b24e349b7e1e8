"""One trial: the runs of a choice, one seed after another, pruned where it falls behind the others."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from detectron2.config import CfgNode

from densedist.common.compare.outcome import outcome
from densedist.common.engine.hooks import RunEnded
from densedist.common.errors import UserError
from densedist.common.report.history import read_history
from densedist.common.task import Task, metric_of_each
from densedist.common.tune.recipe import Recipe
from densedist.common.tune.space import Choice
from densedist.common.tune.trials import PLACE, WHY, Going

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

Watch = Callable[[int, float], None]
# Trains a config's student; the third argument is True to resume what is in OUTPUT_DIR, the fourth hears of each
# evaluation on the way (see common.engine.train).
Train = Callable[[CfgNode, Task, bool, Watch], None]


@dataclass(frozen=True)
class Attempt:
    """A choice that a trial has made.

    Args:
        going: the trial and its folder, with a folder for each seed.
        seeds: the objective is the mean over them. Only the first one is compared with other trials on the way.
    """

    going: Going
    choice: Choice
    recipe: Recipe
    seeds: Sequence[int]
    train: Train

    def run(self, others: Sequence[FrozenTrial]) -> float | None:
        """Train what has not been trained yet, unless another trial has made the same choice before.

        Returns:
            the mean of the metric in percent; None where the trial was given up.

        Raises:
            UserError: of a run; it stays as the trial's attribute WHY.
        """
        trial = self.going.trial
        trial.set_user_attr("method", self.choice.method)
        trial.set_user_attr("keys", dict(self.choice.keys))
        if twin := self._twin(others):
            return self._repeat(twin)
        try:
            values = {seed: self._value(seed) for seed in self.seeds}
            trial.set_user_attr("seeds", {str(seed): value for seed, value in values.items()})
            return statistics.mean(values.values())
        except RunEnded:
            return None
        except UserError as error:
            trial.set_user_attr(WHY, str(error))
            raise
        finally:
            self._record_time()

    def drop_checkpoints(self) -> None:
        """Give back their room, once the trial has ended."""
        for file in self.going.folder.glob("seed*/*.pth"):
            file.unlink()

    def _twin(self, others: Sequence[FrozenTrial]) -> FrozenTrial | None:
        def is_twin(other: FrozenTrial) -> bool:
            made = Choice(other.user_attrs.get("method", ""), other.user_attrs.get("keys", {}))
            return other.value is not None and made == self.choice

        return next(filter(is_twin, others), None)

    def _repeat(self, twin: FrozenTrial) -> float | None:
        """Return the result of an equal choice, which would be the same again."""
        trial = self.going.trial
        trial.set_user_attr("same_as", twin.user_attrs.get(PLACE, twin.number))
        trial.set_user_attr("iterations", twin.user_attrs["iterations"])
        if twin.state.name == "PRUNED":
            for step, value in twin.intermediate_values.items():
                trial.report(value, step)
            return None
        trial.set_user_attr("seeds", twin.user_attrs["seeds"])
        return twin.value

    def _value(self, seed: int) -> float:
        """Return the metric at the end of a seed's run, the mean over the data sets that are scored."""
        folder = self._folder(seed)
        cfg = self.recipe.run(self.choice, seed, folder)
        watch = self._watch(cfg, folder) if seed == self.seeds[0] else _nobody
        length = cfg.SOLVER.MAX_ITER
        if outcome(folder, length) is None:
            self.train(cfg, self.recipe.task, True, watch)
        done = outcome(folder, length)
        values = [] if done is None else [done.value, *done.others.values()]
        defined = [value for value in values if value is not None]
        if not defined or len(defined) < len(values):
            raise UserError(f"{folder}: {self.recipe.task.metric(cfg)} is not defined at the end of the run")
        if seed != self.seeds[-1]:
            watch(length, statistics.fmean(defined))  # before time is spent on the next seed
        return statistics.fmean(defined)

    def _watch(self, cfg: CfgNode, folder: Path) -> Watch:
        """Report each evaluation to Optuna, and end a run that falls behind."""
        trial, period = self.going.trial, cfg.TEST.EVAL_PERIOD
        told: set[int] = set()

        def report(iteration: int, value: float) -> None:
            step = round(iteration / period)
            # A run that goes on repeats an evaluation that may have been cut short.
            if step not in told and not math.isnan(value):
                told.add(step)
                trial.report(value, step)

        def watch(iteration: int, value: float) -> None:
            report(iteration, value)
            if trial.should_prune():
                raise RunEnded

        history, metrics = read_history(folder), metric_of_each(cfg.DATASETS.TEST, self.recipe.task.metric(cfg))
        for points in zip(*(history.get(metric, []) for metric in metrics), strict=False):
            if points[0].iteration < cfg.SOLVER.MAX_ITER:
                report(points[0].iteration, statistics.fmean(point.value for point in points))
        return watch

    def _record_time(self) -> None:
        """Record the iterations of the longest run, and the seconds of all."""
        clocks = [clock[-1] for seed in self.seeds if (clock := read_history(self._folder(seed)).get("train_seconds"))]
        self.going.trial.set_user_attr("iterations", max((point.iteration for point in clocks), default=0))
        self.going.trial.set_user_attr("seconds", sum(point.seconds for point in clocks))

    def _folder(self, seed: int) -> Path:
        return self.going.folder / f"seed{seed}"


def _nobody(_: int, __: float) -> None:
    """Do nothing: the run is not compared while it goes on."""
