"""FGD's global relations: what ties the places of a map together, learned on both sides."""

import torch
from torch import Tensor, nn

from densedist.common.losses.checks import check_inside, prepare_features


class GlobalContext(nn.Module):
    """A map with its context added, Cao et al. (GCNet), ICCV workshops 2019, as FGD has it.

    F + W_v2 ReLU(LayerNorm(W_v1 Σ_j α_j F_j)), α being the softmax over the places of W_k F. W_v2 starts at 0, and so
    the block as the identity.

    Args:
        channels: of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(channels // 2, 1)
        last = nn.Conv2d(inner, channels, 1)
        self.attend = nn.Conv2d(channels, 1, 1)
        self.transform = nn.Sequential(nn.Conv2d(channels, inner, 1), nn.LayerNorm([inner, 1, 1]), nn.ReLU(), last)
        nn.init.kaiming_normal_(self.attend.weight, nonlinearity="relu")
        for parameter in last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, features: Tensor, inside: Tensor | None = None) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W); the context is that of the places inside, bool (N, H, W)."""
        if inside is not None:
            features = features.where(inside[:, None], 0)
        places = self.attend(features).flatten(2)
        if inside is not None:
            places = places.masked_fill(~inside.flatten(1)[:, None], -torch.inf)
        places = places.softmax(2)
        context = (features.flatten(2) * places).sum(2)
        return features + self.transform(context[:, :, None, None])


class GlobalRelationLoss(nn.Module):
    """The part of FGD's loss that is learned: Yang et al., CVPR 2022, λ Σ (R(F_T) - R(F_S))² for each image.

    R is a GlobalContext on each side, both trained with the student.

    Args:
        channels: of the teacher's features; the student's come with as many.
        weight: λ of the paper. As it is a sum over channels and places, the paper's are small: 5e-6 for one-stage
            detectors, 5e-7 for two-stage ones.
    """

    def __init__(self, channels: int, weight: float) -> None:
        super().__init__()
        self.weight = weight
        self.student, self.teacher = GlobalContext(channels), GlobalContext(channels)

    def forward(self, student: Tensor, teacher: Tensor, inside: Tensor | None = None) -> Tensor:
        """
        Args:
            student: (N, C, H, W), any floating dtype; the gradient flows here, and to the parameters of both sides.
            teacher: of the same shape.
            inside: bool (N, H, W), False in the padding of smaller images, which does not count; None = no padding.

        Returns:
            0-dim loss, at least 0, float32 (float64 for float64 input).

        Raises:
            ValueError: shapes that differ, not four dimensions, a wrong dtype, an empty tensor.
        """
        student, teacher = prepare_features(student, teacher, dims=4)
        check_inside(inside, student)
        with torch.autocast(student.device.type, enabled=False):
            apart = self.student(student, inside) - self.teacher(teacher, inside)
        if inside is not None:
            apart = apart.where(inside[:, None], 0)
        return self.weight * apart.square().sum() / len(student)
