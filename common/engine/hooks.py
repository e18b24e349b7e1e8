"""What happens around the steps of a training, beside Detectron2's own hooks."""

import time
from collections.abc import Callable

from detectron2.engine import HookBase
from detectron2.engine.hooks import EvalHook


class Clock(HookBase):
    """Logs train_seconds: time spent in training steps so far, evaluation and checkpoints left out."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def before_step(self) -> None:
        self._start = time.perf_counter()

    def after_step(self) -> None:
        self._seconds += time.perf_counter() - self._start
        self.trainer.storage.put_scalar("train_seconds", self._seconds, smoothing_hint=False)

    def state_dict(self) -> dict:
        return {"seconds": self._seconds}

    def load_state_dict(self, state: dict) -> None:
        self._seconds = state["seconds"]


class Evaluation(EvalHook):
    """Detectron2's, and nothing is left out or done for nothing when a run is cut short."""

    def before_train(self) -> None:
        # The checkpoint is written first: whether the evaluation after it was finished is not known.
        start = self.trainer.start_iter
        if self._period > 0 and 0 < start < self.trainer.max_iter and start % self._period == 0:
            self._do_eval()

    def after_train(self) -> None:
        if self.trainer.iter >= self.trainer.max_iter:  # else an exception ended the training
            super().after_train()


class AtEnd(HookBase):
    """Something to do when the training has come to its end, and not been cut short."""

    def __init__(self, do: Callable[[], object]) -> None:
        self._do = do

    def after_train(self) -> None:
        if self.trainer.iter >= self.trainer.max_iter:
            self._do()


#### MERGED FROM common.average
"""An exponential moving average of the student, which is then what is evaluated and kept for use."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from detectron2.engine import HookBase
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class Average(HookBase):
    """Averages a model's weights and buffers after each step: average = decay · average + (1 - decay) · model.

    Args:
        model: what is trained.
        decay: in (0, 1), e.g. 0.999 for a memory of about 1000 iterations.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._trained = model
        self._averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
        self._averaged.n_averaged.fill_(1)  # it starts as a copy, and so does a resumed one

    @property
    def model(self) -> nn.Module:
        return self._averaged.module

    def after_step(self) -> None:
        self._averaged.update_parameters(self._trained)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The trained model has the average's weights within the block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        pairs = zip(self._trained.state_dict().values(), self.model.state_dict().values(), strict=True)
        for trained, averaged in pairs:
            mine = trained.clone()
            trained.copy_(averaged)
            averaged.copy_(mine)
