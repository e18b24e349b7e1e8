"""Hooks of a run in addition to Detectron2's."""

import copy
import logging
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.engine.hooks import EvalHook
from detectron2.utils import comm
from fvcore.common.history_buffer import HistoryBuffer
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from tqdm import tqdm

from densedist.common.engine.batch_norm import has_local_batch_norm, share_buffers
from densedist.common.engine.checkpoint import CompleteCheckpointer
from densedist.common.engine.preemption import Preemption
from densedist.common.engine.run_folder import RunCheckpointer, damage, save_checkpoint
from densedist.common.randomness import seed_all
from densedist.common.run_files import BEST, FINAL

logger = logging.getLogger(__name__)
RECENT = 1000  # values of a scalar


class Clock(HookBase):
    """Logs train_seconds: time spent in training steps so far, evaluation and checkpoints left out.

    Args:
        once: seconds that were spent before the first step, logged as once_seconds.
    """

    def __init__(self, once: float = 0.0) -> None:
        self._seconds, self._once = 0.0, once

    def before_step(self) -> None:
        self._start = time.perf_counter()

    def after_step(self) -> None:
        self._seconds += time.perf_counter() - self._start
        self.trainer.storage.put_scalar("train_seconds", self._seconds, smoothing_hint=False)
        if self._once:
            self.trainer.storage.put_scalar("once_seconds", self._once, smoothing_hint=False)

    def state_dict(self) -> dict:
        return {"seconds": self._seconds}

    def load_state_dict(self, state: dict) -> None:
        self._seconds = state["seconds"]


class RecentHistories(HookBase):
    """Lets the event storage keep the last values of each scalar only: Detectron2's keeps a million of each, so memory
    would grow by some hundred bytes a step. No writer looks back further."""

    def before_train(self) -> None:
        self.trainer.storage.histories().default_factory = partial(HistoryBuffer, max_length=RECENT)


class SeedEachStep(HookBase):
    """Seeds every process before each step by the trainer's seed, the iteration and the rank.

    So a checkpoint needs no random states, and a run that goes on from one draws what it would have drawn.
    """

    def before_step(self) -> None:
        seed_all(self.trainer.seed, self.trainer.iter, comm.get_rank())


class ModelEMA(HookBase):
    """An exponential moving average of a model's weights and buffers, which is then what is evaluated and kept; of
    counters, as batch norm has them, it has the model's.

    After step t, counted from 0, average = d · average + (1 - d) · model with d = min(decay, (1 + t) / (10 + t)), as
    TensorFlow's ExponentialMovingAverage warms up: about the last tenth of the steps counts until decay says fewer, and
    nothing of the initial weights is left after a short run. d depends on the iteration alone: a run that goes on from
    a checkpoint has the same, and so has every process.

    Args:
        model: what is trained.
        decay: in (0, 1), e.g. 0.999 for a memory of about 1000 iterations.
        teacher: a copy of the model that teaches it: this then is the average (common/distill/average.py). All
            processes have the same, for which the trained model's buffers become those of the main process first.

    Attributes:
        model: the average.
    """

    def __init__(self, model: nn.Module, decay: float, teacher: nn.Module | None = None) -> None:
        self._trained, self._decay = model, decay
        self.model = copy.deepcopy(model) if teacher is None else teacher
        self._shares_buffers = teacher is not None and has_local_batch_norm(model)
        self.start()

    def start(self) -> None:
        """Let the average begin as what the model is now."""
        self.model.load_state_dict(self._trained.state_dict())
        self._places = _places(self.model), _places(self._trained)

    @torch.no_grad()
    def after_step(self) -> None:
        if self._shares_buffers:  # DistributedDataParallel would do so before the next forward pass
            share_buffers(self._trained)
        step = self.trainer.iter
        update = get_ema_multi_avg_fn(min(self._decay, (1 + step) / (10 + step)))
        pairs = self._pairs()
        averaged, trained = ([pair[side] for pair in pairs if pair[0].is_floating_point()] for side in (0, 1))
        update(averaged, trained, None)
        # That function would average counters, which are whole numbers, one by one.
        for counter, count in pairs:
            if not counter.is_floating_point():
                counter.copy_(count)

    def _pairs(self) -> list[tuple[Tensor, Tensor]]:
        """Return each tensor of the average and of the trained model."""
        average, trained = self._places
        if average is not None and trained is not None:  # a state_dict would take milliseconds of every step
            return [(getattr(*ours), getattr(*theirs)) for ours, theirs in zip(average, trained, strict=True)]
        return list(zip(self.model.state_dict().values(), self._trained.state_dict().values(), strict=True))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Give the trained model the average's weights within the block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for averaged, trained in self._pairs():
            mine = trained.clone()
            trained.copy_(averaged)
            averaged.copy_(mine)


def _places(model: nn.Module) -> list[tuple[nn.Module, str]] | None:
    """Return for each tensor of a model's state_dict the module that has it and its name there; None where they are not
    all to be found so, as a state_dict of somebody's own may name them otherwise."""
    found = []
    for key, tensor in model.state_dict().items():
        owner, _, name = key.rpartition(".")
        try:
            module = model.get_submodule(owner)
            same = getattr(module, name).data_ptr() == tensor.data_ptr()
        except AttributeError:
            return None
        if not same:
            return None
        found.append((module, name))
    return found


class SaveCheckpoints(HookBase):
    """Saves every SOLVER.CHECKPOINT_PERIOD iterations, before each evaluation, at the end, and on preemption.

    It ends a preempted run. All processes have it.
    """

    def __init__(self, checkpointer: RunCheckpointer, cfg: CfgNode, preemption: Preemption) -> None:
        self._checkpointer, self._preemption = checkpointer, preemption
        self._periods = [period for period in (cfg.SOLVER.CHECKPOINT_PERIOD, cfg.TEST.EVAL_PERIOD) if period > 0]

    def after_step(self) -> None:
        done, preempted = self.trainer.iter + 1, self._preemption.agreed()
        final = done == self.trainer.max_iter
        if final or preempted or any(done % period == 0 for period in self._periods):
            name = Path(FINAL).stem if final else f"model_{self.trainer.iter:07}"
            self._checkpointer.save(name, iteration=self.trainer.iter)
        if preempted:
            comm.synchronize()  # nobody leaves while the main process writes
            self._preemption.leave()


class Evaluation(EvalHook):
    """Detectron2's hook, which here leaves nothing out and does nothing twice when a run is cut short."""

    def before_train(self) -> None:
        # The checkpoint is written first: whether the evaluation after it was finished is not known.
        start = self.trainer.start_iter
        if self._period > 0 and 0 < start < self.trainer.max_iter and start % self._period == 0:
            self._do_eval()

    def after_train(self) -> None:
        if self.trainer.iter >= self.trainer.max_iter:  # else an exception ended the run
            super().after_train()


class KeepBest(HookBase):
    """Keeps the student with the highest metric so far in model_best.pth, across --resume.

    Runs after the hook that evaluates, on the main process.

    Args:
        checkpointer: what is saved.
        metric: its name among the logged scalars, e.g. "bbox/AP"; a file that is best by another one does not count.
    """

    def __init__(self, checkpointer: CompleteCheckpointer, metric: str) -> None:
        self._checkpointer = checkpointer
        self._file = Path(checkpointer.save_dir) / BEST
        self._metric = metric
        self._best = -math.inf

    def before_train(self) -> None:
        if self.trainer.start_iter > 0 and self._file.is_file() and not damage(self._file):
            self._best = torch.load(self._file, weights_only=True)["metric"].get(self._metric, -math.inf)
        self.after_step()  # an evaluation that was cut short has just been repeated

    def after_step(self) -> None:
        value, iteration = self.trainer.storage.latest().get(self._metric, (-math.inf, -1))
        if iteration == self.trainer.iter and value > self._best:
            self._best = value
            save_checkpoint(self._file, self._checkpointer, metric={self._metric: value}, iteration=iteration)

    def after_train(self) -> None:
        self.after_step()  # the last evaluation comes after the last step
        if self._best == -math.inf and self.trainer.iter >= self.trainer.max_iter:  # else it was cut short
            logger.info(f"no {BEST}: {self._metric} was not defined in any evaluation")


class RunEnded(BaseException):
    """Raised to end a run early; it is no failure, so no traceback is logged."""


class Watch(HookBase):
    """Reports each evaluation on the way to a function, which may raise RunEnded.

    Runs after all other hooks: the evaluation's numbers are written by then.

    Args:
        metrics: their names among the logged scalars; where one is not defined nothing is told.
        tell: called with the iterations that are done and the mean of the metrics.
    """

    def __init__(self, metrics: Sequence[str], tell: Callable[[int, float], None]) -> None:
        self._metrics, self._tell = metrics, tell
        self._last = -1

    def before_train(self) -> None:
        self._look(self.trainer.iter)  # an evaluation that was cut short has just been repeated

    def after_step(self) -> None:
        self._look(self.trainer.iter + 1)

    def _look(self, done: int) -> None:
        latest = self.trainer.storage.latest()
        values, iterations = zip(*(latest.get(metric, (math.nan, -1)) for metric in self._metrics), strict=True)
        value, iteration = statistics.fmean(values), min(iterations)
        if iteration == self.trainer.iter != self._last and not math.isnan(value):
            self._last = iteration
            self._tell(done, value)


class AtEnd(HookBase):
    """Calls a function when the run has ended, unless it was cut short."""

    def __init__(self, do: Callable[[], object]) -> None:
        self._do = do

    def after_train(self) -> None:
        if self.trainer.iter >= self.trainer.max_iter:
            self._do()


class ProgressBar(HookBase):
    """A bar over the iterations with the total loss and the time left."""

    def before_train(self) -> None:
        trainer = self.trainer
        self._bar = tqdm(total=trainer.max_iter, initial=trainer.start_iter, unit="it", dynamic_ncols=True)

    def after_step(self) -> None:
        loss = self.trainer.storage.histories().get("total_loss")
        if loss is not None:
            self._bar.set_postfix(loss=f"{loss.latest():.3g}", refresh=False)
        self._bar.update()

    def after_train(self) -> None:
        self._bar.close()
