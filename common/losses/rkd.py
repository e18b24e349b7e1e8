"""RKD: the student keeps the distances and angles among the teacher's samples."""

import warnings

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.collectives import gather_from_processes
from common.losses.features import check_feature, widen
from common.losses.rkd_angles import angle_loss

# Squared distances below this fraction of the squared lengths are what rounding leaves of 0.
ROUNDING = 64 * torch.finfo(torch.float64).eps


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
            ValueError: not two dimensions, another number of samples, a wrong dtype, no sample (with sync a
                process may have none).
        """
        for name, samples in (("student", student), ("teacher", teacher)):
            if not (self.sync and samples.dim() == 2 and len(samples) == 0):  # the others may have some
                check_feature(name, samples, 2)
        if len(student) != len(teacher):
            raise ValueError(f"teacher: got {len(teacher)} samples, want the student's {len(student)}")
        student, teacher = widen(student), widen(teacher.detach())
        if self.sync:
            student, teacher = gather_from_processes(student), gather_from_processes(teacher)
        if len(student) < 3:
            warnings.warn("RKD needs three samples or more: its loss is 0", stacklevel=2)
            return student.sum() * 0
        ours, theirs = (_squared_distances(x.double(), self.normalize) for x in (student, teacher))
        loss = ours.new_zeros(())
        if self.distance_weight:
            loss = loss + self.distance_weight * F.smooth_l1_loss(_distances(ours), _distances(theirs))
        if self.angle_weight:
            loss = loss + self.angle_weight * angle_loss(ours, theirs)
        return loss.to(student.dtype)


def _squared_distances(x: Tensor, normalize: bool) -> Tensor:
    """(N, N) from the inner products of (N, D) float64 samples; 0 between samples equal up to rounding."""
    if normalize:
        x = F.normalize(x)
    x = x - x.mean(0)  # what all samples share would cost digits
    with torch.autocast(x.device.type, enabled=False):
        products = x @ x.T
    squares = products.diagonal()
    both = squares.unsqueeze(0) + squares.unsqueeze(1)
    distances = both - 2 * products
    return distances.masked_fill(distances <= ROUNDING * both, 0)


def _distances(squares: Tensor) -> Tensor:
    """(N, N) distances over the mean of the positive ones."""
    zero = squares == 0
    distance = squares.masked_fill(zero, 1).sqrt().masked_fill(zero, 0)  # the root of 0 has no gradient
    mean = distance.sum() / (~zero).sum().clamp(min=1)
    return distance / mean.clamp(min=torch.finfo(squares.dtype).tiny)
