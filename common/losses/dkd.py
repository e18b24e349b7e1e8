"""DKD: the student matches how likely the teacher finds the right class, and how it splits what is left."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from densedist.common.distributed import sum_over_processes
from densedist.common.losses.checks import (
    check_columns,
    check_logits,
    check_not_negative,
    check_positive,
    check_target,
    prepare_logits,
)


class DKDLoss(nn.Module):
    """Decoupled knowledge distillation, Zhao et al., CVPR 2022: tau² · (alpha · TCKD + beta · NCKD), mean over rows.

    KL(teacher || student) of a row is TCKD + (1 - p) NCKD: TCKD is that of two probabilities, of the target p and of
    all other classes together; NCKD that of the other classes among themselves. In KD the second therefore counts the
    less the surer the teacher is; here it has a weight of its own. The target is the class of the label, in detection
    also the background, as in the authors' code for Detectron2.

    Args:
        alpha, beta: weights of the two; the authors' are 1 and 0.25 for detectors, 1 and 0.5 to 8 for classifiers.
        tau: temperature, above 0.
        sync: take the mean over the rows of all processes, however many each has.

    Raises:
        ValueError: a weight below 0 or a tau not above 0.
    """

    def __init__(self, alpha: float = 1.0, beta: float = 0.25, tau: float = 1.0, sync: bool = False) -> None:
        super().__init__()
        check_not_negative("alpha", alpha)
        check_not_negative("beta", beta)
        check_positive("tau", tau)
        self.alpha, self.beta, self.tau, self.sync = alpha, beta, tau, sync

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}, beta={self.beta}, tau={self.tau}"

    def forward(self, student: Tensor, teacher: Tensor, valid: Tensor | None = None, *, target: Tensor) -> Tensor:
        """Return the loss of student and teacher.

        Args:
            student: logits (R, C) or (N, C, *spatial), any floating dtype; the gradient flows here.
            teacher: logits of the same shape.
            valid: bool (R,) or (N, *spatial), True = the row counts; None = all count that have a target. With it
                there may be no row.
            target: int64 of the same shape, 0 to C - 1; below 0 the row has no target and does not count.

        Returns:
            0-dim loss, at least 0, float32 (float64 for float64 logits). Zero with gradient zero where no
            row counts; not finite where a row that counts is not finite.

        Raises:
            ValueError: shapes that differ, fewer than two dimensions, a wrong dtype, an empty tensor, one column.
        """
        check_target(target, student)
        check_logits(student, teacher, valid)
        labeled = target >= 0
        student, teacher, weight = prepare_logits(student, teacher, labeled if valid is None else labeled & valid)
        check_columns(student, "softmax")
        column = target.clamp(min=0).unsqueeze(1)
        (ours, others), (theirs, their_others) = (_split(x / self.tau, column) for x in (student, teacher))
        divergence = self.alpha * _divergence(ours, theirs) + self.beta * _divergence(others, their_others)
        total, rows = (divergence * weight).sum(), weight.sum()
        if self.sync:
            total, rows = sum_over_processes(total), sum_over_processes(rows)
        return self.tau**2 * total / rows.clamp(min=1)


def _split(logits: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
    """Return log probabilities of target and others together, (R, 2, …), and of each among the others, (R, C, …).

    In the place of the target the latter are 0, on both sides.

    Args:
        column: of the target, (R, 1, …).
    """
    right = torch.zeros_like(logits, dtype=torch.bool).scatter(1, column, True)
    others = logits.masked_fill(right, -torch.inf)
    two = torch.cat([logits.gather(1, column), others.logsumexp(1, keepdim=True)], 1).log_softmax(1)
    return two, others.log_softmax(1).masked_fill(right, 0)


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Return KL(teacher || student) of each row of log probabilities: (R,) or (N, *spatial)."""
    return F.kl_div(student, teacher, reduction="none", log_target=True).sum(1)
