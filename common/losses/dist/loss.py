"""DIST: the student keeps the correlation of the teacher's predictions."""

import torch
from torch import Tensor, nn

from densedist.common.losses.checks import (
    Activation,
    check_activation,
    check_columns,
    check_logits,
    check_positive,
    check_standardized,
    no_rows,
    prepare_logits,
    standardize,
)
from densedist.common.losses.dist.closed_form import dist
from densedist.common.losses.dist.terms import Relation


class DISTLoss(nn.Module):
    """tau² · (beta · inter + gamma · intra) of Huang et al., NeurIPS 2022, eqs. 7 to 10.

    With p = activation(logits / tau), rows being instances (pixels, anchors, RoIs) and columns classes:
    inter is 1 - mean over rows of Pearson(p_student[row], p_teacher[row]); intra the same over columns.
    Pearson is the cosine of the centered vectors, Σab / (‖a‖‖b‖ + eps), as the authors' code has it.

    Args:
        beta: weight of the inter-class relation (rows).
        gamma: weight of the intra-class relation (columns).
        tau: temperature, above 0.
        activation: "softmax" over the classes, or "sigmoid" for each (one-stage detectors).
        eps: added to the product of the norms, above 0.
        sync: take both relations over the rows of all processes, so that k processes with b images each
            give what one process gives with k·b; needs the same number of calls on every process.
        standardize: compare the probabilities of the z-scores of each row's logits (Sun et al., CVPR 2024), which are
            made before the fast passes; for a softmax.

    Raises:
        ValueError: for an unknown activation, tau or eps not above 0, or standardized sigmoids.
    """

    def __init__(
        self,
        beta: float = 1.0,
        gamma: float = 1.0,
        tau: float = 1.0,
        activation: Activation = "softmax",
        eps: float = 1e-8,
        sync: bool = False,
        standardize: bool = False,
    ) -> None:
        super().__init__()
        check_activation(activation)
        check_positive("tau", tau)
        check_positive("eps", eps)
        check_standardized(standardize, activation)
        self.relation, self.sync, self.standardize = Relation(beta, gamma, tau, activation, eps), sync, standardize

    def extra_repr(self) -> str:
        beta, gamma, tau, activation, _ = self.relation
        return f"beta={beta}, gamma={gamma}, tau={tau}, activation={activation!r}, standardize={self.standardize}"

    def forward(self, student: Tensor, teacher: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the loss of student and teacher.

        Args:
            student: logits (R, C) or (N, C, *spatial), any floating dtype; the gradient flows here.
            teacher: logits of the same shape.
            valid: bool (R,) or (N, *spatial), True = the row counts; None = all count. With it there may be no row.

        Returns:
            0-dim loss in [0, 2·tau²·(beta + gamma)], float32 (float64 for float64 logits). Zero with
            gradient zero where no row counts; not finite where a row that counts is not finite.

        Raises:
            ValueError: shapes that differ, fewer than two dimensions, a wrong dtype, an empty tensor, a
                softmax over one column.
        """
        check_logits(student, teacher, valid)
        check_columns(student, self.relation.activation)
        if self.standardize:
            student, teacher, _ = prepare_logits(student, teacher, valid)
            student, teacher = standardize(student), standardize(teacher)
        if no_rows(student, valid):  # the passes want a row: one that does not count
            student, teacher = (torch.cat([x, x.new_zeros(1, *x.shape[1:])]) for x in (student, teacher))
            valid = torch.zeros(len(student), *student.shape[2:], dtype=torch.bool, device=student.device)
        return dist(student, teacher.detach(), valid, self.relation, self.sync)
