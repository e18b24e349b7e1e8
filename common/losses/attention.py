"""Attentive mimic: the student's features equal the teacher's, above all where the teacher attends."""

import torch
from torch import Tensor, nn

from densedist.common.losses.checks import check_inside, check_positive, prepare_features


class AttentiveMimicLoss(nn.Module):
    """Squared error weighted by the teacher's attention to places and channels, Yang et al. (FGD), CVPR 2022.

    The attention of eqs. 2 to 5: with |F| averaged over channels (places), the softmax over the H·W places (C
    channels) at temperature tau, times their number, so that the weights average 1. It is the part of FGD that
    needs no labels and no network of its own, so that segmentation has it, too; FGDLoss has the rest.

    Args:
        tau: temperature, above 0; the paper's is 0.5.

    Raises:
        ValueError: for a tau not above 0.
    """

    def __init__(self, tau: float = 0.5) -> None:
        super().__init__()
        check_positive("tau", tau)
        self.tau = tau

    def extra_repr(self) -> str:
        return f"tau={self.tau}"

    def forward(self, student: Tensor, teacher: Tensor, inside: Tensor | None = None) -> Tensor:
        """Return the loss of student and teacher.

        Args:
            student: (N, C, H, W), any floating dtype; the gradient flows here.
            teacher: of the same shape.
            inside: bool (N, H, W), False in the padding of smaller images, which does not count; None = no padding.

        Returns:
            0-dim loss, at least 0, float32 (float64 for float64 input).

        Raises:
            ValueError: shapes that differ, not four dimensions, a wrong dtype, an empty tensor.
        """
        student, teacher = prepare_features(student, teacher, dims=4)
        check_inside(inside, student)
        places, channels = attention(teacher, self.tau, inside)
        if inside is None:
            weight = places * channels * (teacher.shape[1] * teacher[0, 0].numel())
            return (weight * (student - teacher).square()).mean()
        weight = places * channels * (teacher.shape[1] * places_of(inside))
        error = (student - teacher).where(inside[:, None], 0).square()
        return (weight * error).sum() / (inside.sum() * teacher.shape[1])


def attention(features: Tensor, tau: float, inside: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return how much each place and each channel of a map counts: the softmax of FGD, not yet times their number.

    Args:
        features: (N, C, H, W), float32 or float64.
        inside: bool (N, H, W), False in padding, which has the attention 0; None = no padding.

    Returns:
        (N, 1, H, W) and (N, C, 1, 1), either with the sum 1 for each image.
    """
    energy = features.abs().flatten(2)
    if inside is None:
        by_place, by_channel = energy.mean(1), energy.mean(2)
    else:
        counts = inside.flatten(1)
        energy = energy.where(counts[:, None], 0)
        by_place = energy.mean(1).masked_fill(~counts, -torch.inf)
        by_channel = energy.sum(2) / counts.sum(1, keepdim=True)
    places = torch.softmax(by_place / tau, 1).view(len(features), 1, *features.shape[2:])
    channels = torch.softmax(by_channel / tau, 1)[:, :, None, None]
    return places, channels


def places_of(inside: Tensor) -> Tensor:
    """Return how many places of each image are no padding: (N, H, W) -> (N, 1, 1, 1)."""
    return inside.sum((1, 2))[:, None, None, None]
