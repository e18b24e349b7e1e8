"""What an iteration of each method takes, measured by turns: whatever else the machine does meets both alike."""

import logging
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from detectron2.config import CfgNode
from detectron2.utils.events import EventStorage

from densedist.common.engine.solver import make_optimizer
from densedist.common.engine.trainer import Trainer, build_trainer
from densedist.common.randomness import RunPosition
from densedist.common.task import Task

logger = logging.getLogger(__name__)
WARM_UP, TURNS = 4, 24  # steps of each
PLACE = 1  # the iteration that each step is: not one at which the trainer looks at gradients


def seconds_per_iteration(task: Task, cfgs: Mapping[str, CfgNode]) -> dict[str, float]:
    """Seconds of a training step of each method, its data included.

    Each takes turns with the first one, two models in memory at a time, and its median time over the first one's in
    the same turn is what counts.

    Args:
        cfgs: by method, with data sets looked up; the model is built as for training, and nothing is written but what
            Task.prepare keeps.

    Raises:
        UserError: as training would, before its first step.
    """
    (first, cfg), *others = cfgs.items()
    with _ready(task, cfg) as reference:
        turns = {method: _turns(reference, task, other) for method, other in others}
        own = [ours for pairs in turns.values() for ours, _ in pairs]
        base = statistics.median(own or [_step(reference) for _ in range(TURNS)])
    ratios = {method: statistics.median(theirs / ours for ours, theirs in pairs) for method, pairs in turns.items()}
    for method, ratio in ratios.items():
        logger.info(f"a step of {method} takes {ratio:.2f} times that of {first}")
    return {first: base, **{method: base * ratio for method, ratio in ratios.items()}}


def _turns(reference: Trainer, task: Task, cfg: CfgNode) -> list[tuple[float, float]]:
    """Seconds of a step of the reference and of one of another method, again and again."""
    with _ready(task, cfg) as trainer:
        return [(_step(reference), _step(trainer)) for _ in range(TURNS)]


@contextmanager
def _ready(task: Task, cfg: CfgNode) -> Iterator[Trainer]:
    """A trainer of the method that has taken its first steps."""
    task.check_data(cfg)
    trainee = task.build(cfg)
    task.prepare(cfg, trainee)
    teacher = trainee.distillation.teacher if trainee.distillation else None
    trainer = build_trainer(cfg, trainee.model, make_optimizer(cfg, trainee.model), teacher)
    batches = task.training_batches(cfg)(RunPosition(trainer.seed))
    trainer.reset_data_loader(lambda: batches)
    trainee.model.train()
    trainer.iter, trainer.max_iter = PLACE, cfg.SOLVER.MAX_ITER
    for _ in range(WARM_UP):
        _step(trainer)
    try:
        yield trainer
    finally:
        trainer.after_train()  # ends the workers


def _step(trainer: Trainer) -> float:
    """Take one; its seconds."""
    start = time.perf_counter()
    with EventStorage(PLACE) as trainer.storage:
        trainer.run_step()
    if trainer.device.type == "cuda":
        torch.cuda.synchronize(trainer.device)
    return time.perf_counter() - start
