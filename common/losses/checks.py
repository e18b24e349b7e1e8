"""Checks of what a loss is given, its precision, and standardized logits: what the losses share."""

from typing import Literal

import torch
from torch import Tensor

from densedist.common.losses.channels import ROUNDING

Activation = Literal["softmax", "sigmoid"]
ACTIVATIONS = ("softmax", "sigmoid")
DEVIATION_EPS = 1e-7  # added to the deviation of a row of logits, as in the authors' code


def check_activation(activation: str) -> None:
    """Refuse, by ValueError, an unknown activation."""
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation: got {activation!r}, want one of {', '.join(ACTIVATIONS)}")


def check_positive(name: str, value: float) -> None:
    """Refuse, by ValueError, an argument that is not above 0, or NaN."""
    if not value > 0:
        raise ValueError(f"{name}: got {value}, want a number above 0")


def check_not_negative(name: str, value: float) -> None:
    """Refuse, by ValueError, an argument below 0, or NaN."""
    if not value >= 0:
        raise ValueError(f"{name}: got {value}, want 0 or more")


def check_columns(student: Tensor, activation: Activation) -> None:
    """Refuse, by ValueError, a softmax over one column, which is 1 whatever the logits are."""
    if activation == "softmax" and student.shape[1] == 1:
        raise ValueError(f"student: got one column, {tuple(student.shape)}, want two or more for a softmax")


def check_standardized(standardize: bool, activation: Activation) -> None:
    """Refuse, by ValueError, z-scores of sigmoids: a row of them is no distribution."""
    if standardize and activation == "sigmoid":
        raise ValueError("standardize: got sigmoids, want a softmax over the classes")


def prepare_logits(student: Tensor, teacher: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Check both logits; return them in float32 at least, the teacher's detached, and the weight of each row.

    Rows that do not count become zeros, as a NaN would survive their weight 0.

    Returns:
        student and teacher (R, C) or (N, C, *spatial); weights 0 or 1, (R,) or (N, *spatial).

    Raises:
        ValueError: naming the argument, what was seen and what is wanted.
    """
    check_logits(student, teacher, valid)
    student, teacher = widen(student), widen(teacher.detach())
    if valid is None:
        return student, teacher, student.new_ones(_rows_shape(student))
    keep = valid.unsqueeze(1)
    return student.where(keep, 0), teacher.where(keep, 0), valid.to(student.dtype)


def prepare_features(student: Tensor, teacher: Tensor, dims: int | None = None) -> tuple[Tensor, Tensor]:
    """Check both features, and return them in float32 at least, the teacher's detached.

    Args:
        student, teacher: of equal shape.
        dims: the number of dimensions wanted; None = any.

    Raises:
        ValueError: naming the argument, what was seen and what is wanted.
    """
    for name, feature in (("student", student), ("teacher", teacher)):
        check_feature(name, feature, dims)
    _check_equal_shapes(student, teacher)
    return widen(student), widen(teacher.detach())


def check_inside(inside: Tensor | None, features: Tensor) -> None:
    """Refuse a mask that does not fit its maps.

    Args:
        inside: of features (N, C, H, W) the places that are no padding, (N, H, W); None = all.

    Raises:
        ValueError: naming what was seen and what is wanted.
    """
    if inside is None:
        return
    if inside.dtype != torch.bool:
        raise ValueError(f"inside: got dtype {inside.dtype}, want torch.bool")
    if features.dim() != 4 or inside.shape != (places := _rows_shape(features)):
        raise ValueError(f"inside: got shape {tuple(inside.shape)}, want {tuple(places)}")


def check_logits(student: Tensor, teacher: Tensor, valid: Tensor | None) -> None:
    """Refuse logits of unequal or unusable shapes or types, and a mask that does not fit them.

    Raises:
        ValueError: naming the argument, what was seen and what is wanted.
    """
    for name, logits in (("student", student), ("teacher", teacher)):
        if not logits.is_floating_point():
            raise ValueError(f"{name}: got dtype {logits.dtype}, want floating point logits")
        if logits.dim() < 2:
            raise ValueError(f"{name}: got shape {tuple(logits.shape)}, want (R, C) or (N, C, *spatial)")
        if logits.numel() == 0 and not no_rows(logits, valid):
            raise ValueError(f"{name}: got empty shape {tuple(logits.shape)}, want at least one row and class")
    _check_equal_shapes(student, teacher)
    if valid is not None:
        if valid.dtype != torch.bool:
            raise ValueError(f"valid: got dtype {valid.dtype}, want torch.bool")
        rows = _rows_shape(student)
        if valid.shape != rows:
            raise ValueError(f"valid: got shape {tuple(valid.shape)}, want {tuple(rows)}")


def check_target(target: Tensor, logits: Tensor) -> None:
    """Refuse targets that are no class numbers of the rows of logits.

    Raises:
        ValueError: targets of another dtype than int64, or not one for each row of the logits.
    """
    if target.dtype != torch.int64:
        raise ValueError(f"target: got dtype {target.dtype}, want torch.int64")
    if target.shape != (rows := _rows_shape(logits)):
        raise ValueError(f"target: got shape {tuple(target.shape)}, want {tuple(rows)}")


def no_rows(rows: Tensor, valid: Tensor | None) -> bool:
    """Return whether there is no row (0, *), and a mask says so: a process may have none where others have some.

    Without a mask it is a mistake.
    """
    return valid is not None and len(rows) == 0


def check_feature(name: str, feature: Tensor, dims: int | None, valid: Tensor | None = None) -> None:
    """Refuse features of another number of dimensions, of no values, or of no floating type.

    Args:
        valid: the mask that comes with rows, of losses that have one.

    Raises:
        ValueError: naming the argument, what was seen and what is wanted.
    """
    if not feature.is_floating_point():
        raise ValueError(f"{name}: got dtype {feature.dtype}, want floating point features")
    if dims is not None and feature.dim() != dims:
        raise ValueError(f"{name}: got shape {tuple(feature.shape)}, want {dims} dimensions")
    if feature.numel() == 0 and not no_rows(feature, valid):
        raise ValueError(f"{name}: got empty shape {tuple(feature.shape)}, want at least one value")


def widen(x: Tensor) -> Tensor:
    """Return half precision widened to float32; float32 and float64 stay."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def _check_equal_shapes(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise ValueError(f"teacher: got shape {tuple(teacher.shape)}, want the student's {tuple(student.shape)}")


def _rows_shape(logits: Tensor) -> torch.Size:
    """Return the shape of a mask of rows: (R,) for (R, C), (N, *spatial) for (N, C, *spatial)."""
    return logits.shape[:1] + logits.shape[2:]


def standardize(logits: Tensor) -> Tensor:
    """Return the z-score of each row, to be divided by the temperature: Sun et al., CVPR 2024, Algorithm 1.

    The deviation is the root of the mean square, as in the paper; the authors' code divides the squares by C - 1.

    Args:
        logits: (R, C) or (N, C, *spatial), float32 or float64.

    Returns:
        of the same shape, with mean 0 and mean square 1 over the C; zeros, with gradient zero, where all C are equal,
        but for the rounding of their mean: divided by itself it would give a gradient a million times too large.
    """
    mean = logits.mean(1, keepdim=True)
    centered = logits - mean
    variance = centered.square().mean(1, keepdim=True)
    constant = variance <= (ROUNDING * torch.finfo(logits.dtype).eps * mean).square()  # the root of 0 has no gradient
    deviation = variance.masked_fill(constant, 1).sqrt()
    return centered.masked_fill(constant, 0) / (deviation + DEVIATION_EPS)
