"""Attentive mimic: the student's features equal the teacher's, above all where the teacher attends."""

import torch
from torch import Tensor, nn

from densedist.common.losses.checks import check_positive, prepare_features


class AttentiveMimicLoss(nn.Module):
    """Squared error weighted by the teacher's attention to places and channels, Yang et al. (FGD), CVPR 2022.

    The attention of eqs. 2 to 5: with |F| averaged over channels (places), the softmax over the H·W places (C
    channels) at temperature tau, times their number, so that the weights average 1. Chosen as the strongest of
    the simple feature losses: most of FGD's gain over plain mimic comes from this weighting, and unlike masked
    generation (MGD) it needs no network of its own and stays a function of two tensors. Left out of FGD: the
    split into foreground and background, which needs boxes, the attention loss, and the global relations.

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

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """
        Args:
            student: (N, C, H, W), any floating dtype; the gradient flows here.
            teacher: of the same shape.

        Returns:
            0-dim loss, at least 0, float32 (float64 for float64 input).

        Raises:
            ValueError: shapes that differ, not four dimensions, a wrong dtype, an empty tensor.
        """
        student, teacher = prepare_features(student, teacher, dims=4)
        energy = teacher.abs().flatten(2)
        places = torch.softmax(energy.mean(1) / self.tau, 1).view(teacher.shape[0], 1, *teacher.shape[2:])
        channels = torch.softmax(energy.mean(2) / self.tau, 1)[:, :, None, None]
        weight = places * channels * (energy.shape[1] * energy.shape[2])
        return (weight * (student - teacher).square()).mean()
