"""Layers between the student's features and the teacher's, for the training only."""

from collections.abc import Sequence
from typing import Any

from torch import nn


class TrainingOnly(nn.ModuleDict):
    """Trained with the model that holds it, but no part of that model's state_dict.

    Its own state_dict() is whole, so that a checkpoint can keep it beside the student.
    """

    def __init__(self, modules: dict[str, nn.Module]) -> None:
        super().__init__(modules)
        self.register_load_state_dict_post_hook(_nothing_is_missing)

    def state_dict(self, *args: Any, destination: Any = None, **kwargs: Any) -> Any:
        # With a destination it is asked as a part of another module.
        return super().state_dict(*args, **kwargs) if destination is None else destination


def _nothing_is_missing(module: nn.Module, incompatible: Any) -> None:
    """Of a student's checkpoint; one of its own, without a prefix to the names, has to be whole."""
    mine = tuple(f".{name}" for name, _ in module.named_parameters())
    incompatible.missing_keys[:] = [key for key in incompatible.missing_keys if not key.endswith(mine)]


def one_by_one(student: Sequence[int], teacher: Sequence[int]) -> nn.ModuleList:
    """A 1x1 convolution with bias for each level, from the student's channels to the teacher's."""
    return nn.ModuleList(nn.Conv2d(s, t, 1) for s, t in zip(student, teacher, strict=True))
