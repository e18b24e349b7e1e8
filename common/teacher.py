"""The frozen teacher's holder."""

from typing import Generic, TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


class Teacher(Generic[M]):
    """Holds a frozen model in eval mode.

    Not an nn.Module on purpose: a student that keeps its teacher as an attribute shows nothing of it in
    parameters(), state_dict(), train() or to(), hence neither does its optimizer, DDP or checkpoint.
    """

    def __init__(self, model: M) -> None:
        # Channels last: the same values to rounding, in about half the time on a CPU.
        self.model = model.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def __deepcopy__(self, memo: dict) -> "Teacher[M]":
        return self  # a copy of the student (an average of its weights, say) learns from the same teacher
