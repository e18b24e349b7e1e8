"""What every loss on features shares: checks of the input and its precision."""

import torch
from torch import Tensor


def prepare_features(student: Tensor, teacher: Tensor, dims: int | None = None) -> tuple[Tensor, Tensor]:
    """Both features checked and in float32 at least, the teacher's detached.

    Args:
        student, teacher: of equal shape.
        dims: the number of dimensions wanted; None = any.

    Raises:
        ValueError: naming the argument, what was seen and what is wanted.
    """
    for name, feature in (("student", student), ("teacher", teacher)):
        check_feature(name, feature, dims)
    if student.shape != teacher.shape:
        raise ValueError(f"teacher: got shape {tuple(teacher.shape)}, want the student's {tuple(student.shape)}")
    return widen(student), widen(teacher.detach())


def check_feature(name: str, feature: Tensor, dims: int | None) -> None:
    if not feature.is_floating_point():
        raise ValueError(f"{name}: got dtype {feature.dtype}, want floating point features")
    if dims is not None and feature.dim() != dims:
        raise ValueError(f"{name}: got shape {tuple(feature.shape)}, want {dims} dimensions")
    if feature.numel() == 0:
        raise ValueError(f"{name}: got empty shape {tuple(feature.shape)}, want at least one value")


def widen(feature: Tensor) -> Tensor:
    """Half precision widened to float32; float32 and float64 as they are."""
    return feature if feature.dtype in (torch.float32, torch.float64) else feature.float()
