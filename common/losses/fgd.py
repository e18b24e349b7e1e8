"""FGD: the student's features equal the teacher's, objects and background each by its own weight."""

import torch
from torch import Tensor, nn

from densedist.common.losses.attention import attention, places_of
from densedist.common.losses.checks import check_inside, check_not_negative, check_positive, prepare_features


class FGDLoss(nn.Module):
    """The focal part of FGD, Yang et al., CVPR 2022.

    Squared errors, weighted by the teacher's attention to places and channels, are summed over channels and places of
    objects, each place divided by the number of places of its object (times alpha), and over those of the background,
    divided by their number (times beta); and the absolute differences of both sides' attention are summed (times
    gamma). All of it is averaged over the images. The global part, which is learned, is
    GlobalRelationLoss.

    Args:
        alpha, beta, gamma: weights of objects, background and attention. As they weigh sums, they are small: in the
            authors' code 1e-3, 5e-4, 5e-4 for RetinaNets, 5e-5, 2.5e-5, 5e-5 for Faster R-CNNs.
        tau: temperature of the attention, above 0.

    Raises:
        ValueError: a weight below 0 or a tau not above 0.
    """

    def __init__(self, alpha: float = 1e-3, beta: float = 5e-4, gamma: float = 5e-4, tau: float = 0.5) -> None:
        super().__init__()
        for name, weight in (("alpha", alpha), ("beta", beta), ("gamma", gamma)):
            check_not_negative(name, weight)
        check_positive("tau", tau)
        self.alpha, self.beta, self.gamma, self.tau = alpha, beta, gamma, tau

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}, beta={self.beta}, gamma={self.gamma}, tau={self.tau}"

    def forward(self, student: Tensor, teacher: Tensor, inside: Tensor | None = None, *, target: Tensor) -> Tensor:
        """Return the loss of student and teacher.

        Args:
            student: (N, C, H, W), any floating dtype; the gradient flows here.
            teacher: of the same shape.
            inside: bool (N, H, W), False in the padding of smaller images, which does not count; None = no padding.
            target: (N, H, W), one over the number of places of the smallest object that has a place, 0 in the
                background; below 0 it is not known, and only the attention counts there.

        Returns:
            0-dim loss, at least 0, float32 (float64 for float64 input).

        Raises:
            ValueError: shapes that differ, not four dimensions, a wrong dtype, an empty tensor.
        """
        student, teacher = prepare_features(student, teacher, dims=4)
        if target.shape != (places := student.shape[:1] + student.shape[2:]):
            raise ValueError(f"target: got shape {tuple(target.shape)}, want {tuple(places)}")
        check_inside(inside, student)
        count: int | Tensor = student[0, 0].numel() if inside is None else places_of(inside)
        channels = student.shape[1]
        # As many as there are, so that the weights average 1.
        (at, of), (their_at, their_of) = (
            (count * by_place, channels * by_channel)
            for by_place, by_channel in (attention(x, self.tau, inside) for x in (student, teacher))
        )
        apart = student - teacher
        is_background = target == 0
        if inside is not None:
            apart, is_background = apart.where(inside[:, None], 0), is_background & inside
        error = (their_at * their_of * apart.square()).sum(1)
        background = is_background.to(error.dtype)
        background = background / background.sum((1, 2), keepdim=True).clamp(min=1)
        weight = self.alpha * target.clamp(min=0).to(error.dtype) + self.beta * background
        attention_apart = (at - their_at).abs().sum() + (of - their_of).abs().sum()
        return ((weight * error).sum() + self.gamma * attention_apart) / len(student)


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
        """Return features (N, C, H, W) with the context of the places inside, bool (N, H, W)."""
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
        """Return the loss of student and teacher.

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
