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
