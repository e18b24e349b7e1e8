"""RKD's angle term from squared distances, with its gradient in closed form, one group of vertices after another."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Angles at a time: on the CPU their scratch stays in the cache, on a GPU the launches are few.
GROUP = {"cpu": 1 << 17}
GROUP_ELSEWHERE = 1 << 24


def angle_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Smooth L1 (beta 1) between the cosines of all angles (i, j, k), vertex i, averaged over all N³.

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
    """1 / √squares, 0 where squares are 0."""
    zero = squares == 0
    return squares.masked_fill(zero, 1).rsqrt().masked_fill(zero, 0)


def _cosines(squares: Tensor, sides: Tensor, inverse: Tensor, out: Tensor) -> None:
    """(n, N, N) cosines at n vertices from all (N, N) squared distances and the vertices' (n, N)."""
    torch.sub(sides.unsqueeze(2), squares, out=out)
    out.add_(sides.unsqueeze(1)).mul_(inverse.unsqueeze(2)).mul_(inverse.unsqueeze(1) / 2)
