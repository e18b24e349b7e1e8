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
