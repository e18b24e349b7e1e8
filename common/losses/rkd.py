"""RKD: the student keeps the distances and angles among the teacher's samples."""

import warnings

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.collectives import gather_from_processes
from common.losses.features import check_feature, widen


class RKDLoss(nn.Module):
    """Relational knowledge distillation, Park et al., CVPR 2019, eqs. 5 to 8.

    Distance: ‖x_i - x_j‖ over the mean of the positive distances, each side by its own. Angle: the cosine of
    every angle (i, j, k) with its vertex at i. Both compared by the smooth L1 loss (beta 1), averaged over all
    N² pairs and all N³ triples, degenerate ones included, where both sides have 0.

    Args:
        distance_weight, angle_weight: of the two terms; the paper has 1 : 2, mmrazor 25 and 50.
        normalize: give every sample length 1 first, as mmrazor does.
        sync: take the relations among the samples of all processes, so that few samples on each suffice;
            needs the same number of calls on every process.
    """

    def __init__(
        self,
        distance_weight: float = 25.0,
        angle_weight: float = 50.0,
        normalize: bool = True,
        sync: bool = False,
    ) -> None:
        super().__init__()
        self.distance_weight, self.angle_weight = distance_weight, angle_weight
        self.normalize, self.sync = normalize, sync

    def extra_repr(self) -> str:
        return f"distance_weight={self.distance_weight}, angle_weight={self.angle_weight}"

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """
        Args:
            student: (N, D_s) samples, any floating dtype; the gradient flows here.
            teacher: (N, D_t) samples.

        Returns:
            0-dim loss, at least 0, float32 (float64 for float64 samples). Below three samples neither
            relation says anything: zero with gradient zero, and a warning once.

        Raises:
            ValueError: not two dimensions, another number of samples, a wrong dtype, an empty tensor.
        """
        check_feature("student", student, 2)
        check_feature("teacher", teacher, 2)
        if len(student) != len(teacher):
            raise ValueError(f"teacher: got {len(teacher)} samples, want the student's {len(student)}")
        student, teacher = widen(student), widen(teacher.detach())
        if self.sync:
            student, teacher = gather_from_processes(student), gather_from_processes(teacher)
        if len(student) < 3:
            warnings.warn("RKD needs three samples or more: its loss is 0", stacklevel=2)
            return student.sum() * 0
        if self.normalize:
            student, teacher = F.normalize(student), F.normalize(teacher)
        loss = student.new_zeros(())
        if self.distance_weight:
            loss = loss + self.distance_weight * F.smooth_l1_loss(_distances(student), _distances(teacher))
        if self.angle_weight:
            loss = loss + self.angle_weight * F.smooth_l1_loss(_cosines(student), _cosines(teacher))
        return loss


def _distances(x: Tensor) -> Tensor:
    """(N, N) distances over the mean of the positive ones."""
    square = (x.unsqueeze(0) - x.unsqueeze(1)).square().sum(2)
    distance = _sqrt(square)
    positive = distance > 0
    return distance / (distance.sum() / positive.sum().clamp(min=1)).clamp(min=torch.finfo(x.dtype).tiny)


def _cosines(x: Tensor) -> Tensor:
    """(N, N, N) cosines of the angles at the first index, 0 where a side of the angle has no length."""
    sides = x.unsqueeze(0) - x.unsqueeze(1)
    length = _sqrt(sides.square().sum(2, keepdim=True))
    directions = sides / length.masked_fill(length == 0, 1)
    return directions @ directions.transpose(1, 2)


def _sqrt(square: Tensor) -> Tensor:
    """sqrt with gradient 0 at 0."""
    zero = square == 0
    return square.masked_fill(zero, 1).sqrt().masked_fill(zero, 0)
