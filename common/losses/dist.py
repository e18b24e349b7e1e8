"""DIST: the student keeps the correlation of the teacher's predictions."""

import torch
from torch import Tensor, nn

from common.collectives import sum_over_processes
from common.losses.logits import Activation, check_activation, check_positive, prepare


class DISTLoss(nn.Module):
    """tau² · (beta · inter + gamma · intra) of Huang et al., NeurIPS 2022, eqs. 7 to 10.

    With p = activation(logits / tau), rows being instances (pixels, anchors, RoIs) and columns classes:
    inter is 1 - mean over rows of Pearson(p_student[row], p_teacher[row]); intra the same over columns.
    Pearson is the cosine of the centred vectors, Σab / (‖a‖‖b‖ + eps), as the authors' code has it.

    Args:
        beta: weight of the inter-class relation (rows).
        gamma: weight of the intra-class relation (columns).
        tau: temperature, above 0.
        activation: "softmax" over the classes, or "sigmoid" for each (one-stage detectors).
        eps: added to the product of the norms, above 0.
        sync: take both relations over the rows of all processes, so that k processes with b images each
            give what one process gives with k·b; needs the same number of calls on every process.

    Raises:
        ValueError: for an unknown activation, or tau or eps not above 0.
    """

    def __init__(
        self,
        beta: float = 1.0,
        gamma: float = 1.0,
        tau: float = 1.0,
        activation: Activation = "softmax",
        eps: float = 1e-8,
        sync: bool = False,
    ) -> None:
        super().__init__()
        check_activation(activation)
        check_positive("tau", tau)
        check_positive("eps", eps)
        self.beta, self.gamma, self.tau = beta, gamma, tau
        self.activation, self.eps, self.sync = activation, eps, sync

    def extra_repr(self) -> str:
        return f"beta={self.beta}, gamma={self.gamma}, tau={self.tau}, activation={self.activation!r}"

    def forward(self, student: Tensor, teacher: Tensor, valid: Tensor | None = None) -> Tensor:
        """
        Args:
            student: logits (R, C) or (N, C, *spatial), any floating dtype; the gradient flows here.
            teacher: logits of the same shape.
            valid: bool (R,) or (N, *spatial), True = the row counts; None = all count.

        Returns:
            0-dim loss in [0, 2·tau²·(beta + gamma)], float32 (float64 for float64 logits). Zero with
            gradient zero where no row counts; not finite where a row that counts is not finite.

        Raises:
            ValueError: shapes that differ, fewer than two dimensions, a wrong dtype, an empty tensor.
        """
        student, teacher, weight = prepare(student, teacher, valid)
        weight = weight.unsqueeze(1)
        p, q = self._probabilities(student), self._probabilities(teacher)

        rows = _cosine(_second_moments(p - p.mean(1, keepdim=True), q - q.mean(1, keepdim=True), [1]), self.eps)

        total = sum_over_processes if self.sync else lambda sums: sums
        instances = [0, *range(2, student.dim())]
        per_class = (1, -1, *[1] * (student.dim() - 2))
        count, correlation = total(torch.stack([weight.double().sum(), (rows * weight.squeeze(1)).sum()]))
        sums = total(torch.stack([_sum(p * weight, instances), _sum(q * weight, instances)]))
        p_mean, q_mean = (sums / count.clamp(min=1)).to(p.dtype)
        p, q = (p - p_mean.view(per_class)) * weight, (q - q_mean.view(per_class)) * weight
        columns = _cosine(total(_second_moments(p, q, instances)), self.eps)

        inter = (count - correlation) / count.clamp(min=1)
        intra = (1 - columns).mean() * (count > 0)
        return (self.tau**2 * (self.beta * inter + self.gamma * intra)).to(student.dtype)

    def _probabilities(self, logits: Tensor) -> Tensor:
        scaled = logits / self.tau
        return scaled.softmax(dim=1) if self.activation == "softmax" else scaled.sigmoid()


def _sum(x: Tensor, dims: list[int]) -> Tensor:
    """Sums in float64: in float32 the loss is off by 5e-5 on a Cityscapes crop."""
    return x.sum(dims, dtype=torch.float64)


def _second_moments(p: Tensor, q: Tensor, dims: list[int]) -> Tensor:
    return torch.stack([_sum(p * q, dims), _sum(p * p, dims), _sum(q * q, dims)])


def _cosine(moments: Tensor, eps: float) -> Tensor:
    cross, p_square, q_square = moments
    return cross / (_sqrt(p_square) * _sqrt(q_square) + eps)


def _sqrt(square: Tensor) -> Tensor:
    """sqrt with gradient 0 at 0, where a constant row or column would give inf · 0 = NaN."""
    zero = square == 0
    return square.masked_fill(zero, 1).sqrt().masked_fill(zero, 0)
