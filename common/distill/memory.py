"""Samples of earlier batches, for losses that relate samples: a batch alone has few."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


class Memory:
    """The last samples of student and teacher, without gradient, of each tensor of a tap.

    The student's are as it gave them at the time. Each process has its own.

    Args:
        size: samples that are kept of a tensor; 0 = none.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._past: dict[int, tuple[Tensor, Tensor]] = {}

    def joined(self, number: int, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Return a batch's samples with those of earlier batches behind them, and keep the batch's.

        Args:
            number: of the tensor of the tap.
            student, teacher: (R, C_s) and (R, C_t).
        """
        both = student, teacher
        if number in self._past:
            past = [old.to(x.device, x.dtype) for old, x in zip(self._past[number], both, strict=True)]
            both = torch.cat([student, past[0]]), torch.cat([teacher, past[1]])
        self._past[number] = (both[0][: self.size].detach().clone(), both[1][: self.size].detach().clone())
        return both

    def state_dict(self) -> dict[str, Any]:
        return {str(number): list(pair) for number, pair in self._past.items()}

    def load_state_dict(self, state_dict: Mapping[str, Sequence[Tensor]]) -> None:
        self._past = {int(number): (pair[0], pair[1]) for number, pair in state_dict.items()}


class Memories:
    """The memories of a run's losses, by the name of each, as a checkpoint keeps them."""

    def __init__(self, each: Mapping[str, Memory]) -> None:
        self.each = dict(each)

    def __bool__(self) -> bool:
        return bool(self.each)

    def state_dict(self) -> dict[str, Any]:
        return {name: memory.state_dict() for name, memory in self.each.items()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        for name, memory in self.each.items():
            memory.load_state_dict(state_dict.get(name, {}))
