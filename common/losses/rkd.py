"""RKD: the student keeps the distances and angles among the teacher's samples."""

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from densedist.common.distributed import gather_from_processes
from densedist.common.losses.checks import check_feature, widen

# Squared distances below this fraction of the squared lengths are what rounding leaves of 0.
ROUNDING = 64 * torch.finfo(torch.float64).eps
# Angles at a time: on the CPU their scratch stays in the cache, on a GPU the launches are few.
GROUP = {"cpu": 1 << 17}
GROUP_ELSEWHERE = 1 << 24


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

    def forward(self, student: Tensor, teacher: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the loss of student and teacher.

        Args:
            student: (N, D_s) samples, any floating dtype; the gradient flows here.
            teacher: (N, D_t) samples.
            valid: bool (N,), True = the sample counts; None = all count. With it there may be no sample.

        Returns:
            0-dim loss, at least 0, float32 (float64 for float64 samples). Below three samples neither
            relation says anything: zero with gradient zero, and a warning once.

        Raises:
            ValueError: not two dimensions, another number of samples, a wrong dtype, no sample (with sync a
                process may have none).
        """
        for name, samples in (("student", student), ("teacher", teacher)):
            if not (self.sync and samples.dim() == 2 and len(samples) == 0):  # the others may have some
                check_feature(name, samples, 2, valid)
        if len(student) != len(teacher):
            raise ValueError(f"teacher: got {len(teacher)} samples, want the student's {len(student)}")
        if valid is not None:
            student, teacher = student[valid], teacher[valid]
        student, teacher = widen(student), widen(teacher.detach())
        if self.sync:
            student, teacher = gather_from_processes(student), gather_from_processes(teacher)
        if len(student) < 3:
            if len(student):
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
    """Return squared distances (N, N) among (N, D) float64 samples; 0 between samples equal up to rounding."""
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
    """Return the distances (N, N) over the mean of the positive ones."""
    zero = squares == 0
    distance = squares.masked_fill(zero, 1).sqrt().masked_fill(zero, 0)  # the root of 0 has no gradient
    mean = distance.sum() / (~zero).sum().clamp(min=1)
    return distance / mean.clamp(min=torch.finfo(squares.dtype).tiny)


def angle_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return smooth L1 (beta 1) between the cosines of all angles (i, j, k), vertex i, averaged over all N³.

    An angle with a side of no length has the cosine 0.

    Args:
        student: (N, N) squared distances among the student's samples, float64; the gradient flows here.
        teacher: (N, N), the same of the teacher's.

    Returns:
        0-dim loss in [0, 1.5], float64.
    """
    return _AngleLoss.apply(student, teacher)


class _AngleLoss(torch.autograd.Function):
    # With r_j = |x_j - x_i|², n = 1 / √r (0 where r is) and s_jk = |x_j - x_k|²
    # cos_jk = ½ (r_j + r_k - s_jk) n_j n_k, so that ∂cos_jk/∂s_jk = -½ n_j n_k
    # and, as cos_jk = cos_kj, Σ_jk h_jk ∂cos_jk/∂r_j = n_j Σ_k h_jk n_k - n_j² Σ_k h_jk cos_jk for symmetric h.
    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor) -> Tensor:
        samples = len(student)
        per_group = max(1, GROUP.get(student.device.type, GROUP_ELSEWHERE) // samples**2)
        inverse, teacher_inverse = _inverse_root(student), _inverse_root(teacher)
        loss, gradient = student.new_zeros(()), torch.zeros_like(student)
        room = student.new_empty(2, min(per_group, samples), samples, samples)
        for start in range(0, samples, per_group):
            group = slice(start, min(start + per_group, samples))
            n = inverse[group]
            ours, theirs = room[:, : len(n)]
            _cosines(student, student[group], n, out=ours)
            _cosines(teacher, teacher[group], teacher_inverse[group], out=theirs)
            difference = torch.sub(ours, theirs, out=theirs)
            h = difference.clamp(-1, 1)  # the slope of smooth L1, which is h · (difference - h / 2)
            loss += torch.sub(difference, h, alpha=0.5, out=difference).mul_(h).sum()
            if ctx.needs_input_grad[0]:
                by_side = torch.bmm(h, n.unsqueeze(2)).squeeze(2)
                gradient[group] += n * by_side - n.square() * ours.mul_(h).sum(2)
                gradient -= h.mul_(n.unsqueeze(1)).mul_(n.unsqueeze(2)).sum(0) / 2
        ctx.save_for_backward(gradient.div_(samples**3))
        return loss / samples**3

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return upstream * gradient, None


def _inverse_root(squares: Tensor) -> Tensor:
    """Return 1 / √squares, 0 where squares are 0."""
    zero = squares == 0
    return squares.masked_fill(zero, 1).rsqrt().masked_fill(zero, 0)


def _cosines(squares: Tensor, sides: Tensor, inverse: Tensor, out: Tensor) -> None:
    """Compute (n, N, N) cosines at n vertices from all (N, N) squared distances and the vertices' (n, N)."""
    torch.sub(sides.unsqueeze(2), squares, out=out)
    out.add_(sides.unsqueeze(1)).mul_(inverse.unsqueeze(2)).mul_(inverse.unsqueeze(1) / 2)
