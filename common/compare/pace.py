"""Measure the time of an iteration of each method, by turns: other load on the machine then affects all alike.

Each turn starts fresh workers and ends them: workers left running would prefetch during the other method's turn.
"""

import logging
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

import torch
from detectron2.config import CfgNode
from detectron2.utils.events import EventStorage

from densedist.common.data.loader import Batches, reading_processes
from densedist.common.engine.hooks import ModelEMA
from densedist.common.engine.solver import make_optimizer
from densedist.common.engine.trainer import Trainer, build_trainer
from densedist.common.randomness import RunPosition
from densedist.common.task import Task

logger = logging.getLogger(__name__)
WARM_UP, TURNS = 4, 24  # steps of each before the first turn; steps that are measured, at least
LEAST_TURNS = 4
QUEUED = 2  # batches that the loader asks of each worker ahead, as PyTorch has it
PLACE = 1  # the iteration that each step is: not one at which the trainer looks at gradients


class Steps(Protocol):
    """Training steps of one method, with the batches of a loader that is begun and ended."""

    def begin(self) -> None: ...

    def step(self) -> None: ...

    def end(self) -> None: ...


def seconds_per_iteration(task: Task, cfgs: Mapping[str, CfgNode]) -> dict[str, float]:
    """Measure the seconds of a training step of each method, its data loading included.

    Each takes turns with the first one, two models in memory at a time, and its median time over the first one's in
    the same turn is what counts.

    Args:
        cfgs: by method, with data sets looked up; the model is built as for training, and nothing is written but what
            Task.prepare keeps.

    Raises:
        UserError: as training would, before its first step.
    """
    (first, cfg), *others = cfgs.items()
    workers = max(map(reading_processes, cfgs.values()))
    turns = {}
    with _ready(task, cfg) as reference:
        for method, other in others:
            with _ready(task, other) as steps:
                turns[method] = by_turns(reference, steps, workers)
        own = [ours for pairs in turns.values() for ours, _ in pairs]
        base = statistics.median(own or [ours for ours, _ in by_turns(reference, None, workers)])
    ratios = {method: statistics.median(theirs / ours for ours, theirs in pairs) for method, pairs in turns.items()}
    for method, ratio in ratios.items():
        logger.info(f"a step of {method} takes {ratio:.2f} times that of {first}")
    return {first: base, **{method: base * ratio for method, ratio in ratios.items()}}


def by_turns(
    first: Steps, second: Steps | None, workers: int, clock: Callable[[], float] = time.perf_counter
) -> list[tuple[float, float]]:
    """Measure a step of two methods alternately; each goes first every second time.

    Args:
        second: None = the first one alone, twice as often.
        workers: number of the loaders' workers; without any a turn is one step.
    """
    length = 2 * QUEUED * workers or 1  # whole rounds of all workers
    pairs = []
    for turn in range(max(LEAST_TURNS if workers else TURNS, TURNS // length)):
        order = [first, second or first][:: -1 if turn % 2 else 1]
        taken = [_turn(steps, QUEUED * workers, length, clock) for steps in order]
        pairs.append((taken[-1], taken[0]) if turn % 2 else (taken[0], taken[-1]))
    return pairs


def _turn(steps: Steps, before: int, length: int, clock: Callable[[], float]) -> float:
    """Measure the seconds of a step, after steps that fill the loader's queue as it is while training."""
    steps.begin()
    try:
        for _ in range(before):
            steps.step()
        start = clock()
        for _ in range(length):
            steps.step()
        return (clock() - start) / length
    finally:
        steps.end()


class _TrainerSteps:
    """The steps of a trainer.

    Args:
        batches_from: a loader from a position on.
        has_workers: without any one loader lasts for all turns: to begin anew would only cost time.
        average: of SOLVER.EMA_DECAY, which is part of a step; None = none.
    """

    def __init__(
        self,
        trainer: Trainer,
        batches_from: Callable[[RunPosition], Batches],
        has_workers: bool,
        average: ModelEMA | None = None,
    ) -> None:
        self._trainer, self._batches_from, self._has_workers = trainer, batches_from, has_workers
        self._average = average
        self._done, self._begun = 0, False

    def begin(self) -> None:
        if self._has_workers or not self._begun:
            # From where the last turn ended: files that have been read lately would be read too fast.
            batches = self._batches_from(RunPosition(self._trainer.seed, self._done))
            self._trainer.reset_data_loader(lambda: batches)
            self._begun = True

    def step(self) -> None:
        trainer = self._trainer
        with EventStorage(PLACE) as trainer.storage:
            trainer.run_step()
        if self._average:
            self._average.after_step()
        if trainer.device.type == "cuda":
            torch.cuda.synchronize(trainer.device)
        self._done += 1

    def end(self) -> None:
        if self._has_workers:
            self._trainer.reset_data_loader(list)


@contextmanager
def _ready(task: Task, cfg: CfgNode) -> Iterator[Steps]:
    """Yield the steps of a method, after its first ones."""
    task.check_data(cfg)
    trainee = task.build(cfg)
    task.prepare(cfg, trainee)
    teacher = trainee.distillation.teacher if trainee.distillation else None
    average = None
    if cfg.SOLVER.EMA_DECAY:
        average = ModelEMA(trainee.student, cfg.SOLVER.EMA_DECAY, teacher.average if teacher else None)
    trainer = build_trainer(cfg, trainee.model, make_optimizer(cfg, trainee.model), trainee.distillation)
    trainer.register_hooks([average])
    trainee.model.train()
    trainer.iter, trainer.max_iter = PLACE, cfg.SOLVER.MAX_ITER
    steps = _TrainerSteps(trainer, task.training_batches(cfg), cfg.DATALOADER.NUM_WORKERS > 0, average)
    try:
        steps.begin()
        for _ in range(WARM_UP):
            steps.step()
        steps.end()
        yield steps
    finally:
        trainer.after_train()  # ends the workers
