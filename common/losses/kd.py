"""KD: the student matches the teacher's probabilities."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from densedist.common.distributed import sum_over_processes
from densedist.common.losses.checks import (
    Activation,
    check_activation,
    check_columns,
    check_positive,
    check_standardized,
    prepare_logits,
    standardize,
)


class KDLoss(nn.Module):
    """KL(teacher || student) · tau², mean over rows (Hinton et al., 2015).

    Args:
        tau: temperature, above 0; both sides' logits are divided by it.
        activation: "softmax": the divergence of two distributions over the classes; "sigmoid": the sum
            over the classes of the divergences of two Bernoulli distributions (one-stage detectors).
        sync: take the mean over the rows of all processes, however many each has.
        standardize: compare the z-scores of each row's logits (Sun et al., CVPR 2024); for a softmax.

    Raises:
        ValueError: for an unknown activation, a tau not above 0, or standardized sigmoids.
    """

    def __init__(
        self, tau: float = 1.0, activation: Activation = "softmax", sync: bool = False, standardize: bool = False
    ) -> None:
        super().__init__()
        check_activation(activation)
        check_positive("tau", tau)
        check_standardized(standardize, activation)
        self.tau, self.activation, self.sync, self.standardize = tau, activation, sync, standardize

    def extra_repr(self) -> str:
        return f"tau={self.tau}, activation={self.activation!r}, standardize={self.standardize}"

    def forward(self, student: Tensor, teacher: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the loss of student and teacher.

        Args:
            student: logits (R, C) or (N, C, *spatial), any floating dtype; the gradient flows here.
            teacher: logits of the same shape.
            valid: bool (R,) or (N, *spatial), True = the row counts; None = all count. With it there may be no row.

        Returns:
            0-dim loss, at least 0, float32 (float64 for float64 logits). Zero with gradient zero where no
            row counts; not finite where a row that counts is not finite.

        Raises:
            ValueError: shapes that differ, fewer than two dimensions, a wrong dtype, an empty tensor, a
                softmax over one column.
        """
        student, teacher, weight = prepare_logits(student, teacher, valid)
        check_columns(student, self.activation)
        if self.standardize:
            student, teacher = standardize(student), standardize(teacher)
        divergence = self._divergence(student / self.tau, teacher / self.tau)
        total, rows = (divergence * weight).sum(), weight.sum()
        if self.sync:
            total, rows = sum_over_processes(total), sum_over_processes(rows)
        return self.tau**2 * total / rows.clamp(min=1)

    def _divergence(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return KL(teacher || student) of each row: (R,) or (N, *spatial)."""
        if self.activation == "softmax":
            pairs = [(student.log_softmax(1), teacher.log_softmax(1))]
        else:
            pairs = [(F.logsigmoid(s), F.logsigmoid(t)) for s, t in ((student, teacher), (-student, -teacher))]
        return torch.stack([F.kl_div(s, t, reduction="none", log_target=True).sum(1) for s, t in pairs]).sum(0)
