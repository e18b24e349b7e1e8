"""The frozen teacher's holder."""

from collections.abc import Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


class Teacher(Generic[M]):
    """Holds a frozen model in eval mode.

    Not an nn.Module on purpose: a student that keeps its teacher as an attribute shows nothing of it in
    parameters(), state_dict(), train() or to(), hence neither does its optimizer, DDP or checkpoint.
    """

    def __init__(self, model: M, flip_channels: bool = False) -> None:
        """
        Args:
            model: it is frozen here and put in eval mode.
            flip_channels: the images come in the other channel order (BGR for RGB) than the model wants.
        """
        self.flip_channels = flip_channels
        # Channels last: the same values to rounding, in about half the time on a CPU.
        self.model = model.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def own_order(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Images (3, H, W) in the student's channel order, in the teacher's."""
        return [image.flip(0) for image in images] if self.flip_channels else list(images)

    def __deepcopy__(self, memo: dict) -> "Teacher[M]":
        return self  # a copy of the student (an average of its weights, say) learns from the same teacher
