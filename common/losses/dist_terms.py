"""DIST's arithmetic between its two passes over the logits: from sums to the loss and the gradient's coefficients."""

from typing import NamedTuple

import torch
from torch import Tensor

from common.collectives import sum_over_processes
from common.losses.logits import Activation


class Relation(NamedTuple):
    """What is compared, and how strongly each relation counts: see DISTLoss."""

    beta: float
    gamma: float
    tau: float
    activation: Activation
    eps: float


class Sums(NamedTuple):
    """What the loss needs of the logits, in float64; p are the student's probabilities, q the teacher's."""

    count: Tensor  # 0-dim: the rows that count
    correlation: Tensor  # 0-dim: the sum of their Pearson correlations
    means: Tensor  # (2, C): of p and q over the rows
    moments: Tensor  # (3, C): Σ(p - mean)², Σ(q - mean)², Σ(p - mean)(q - mean)

    def over_processes(self) -> "Sums":
        """The same of the rows of all processes: two all-reduces, 2 + 2·C and 3·C numbers."""
        local = torch.cat([self.count.view(1), self.correlation.view(1), (self.count * self.means).flatten()])
        total = sum_over_processes(local)
        count, correlation = total[:2]
        means = total[2:].view_as(self.means) / count.clamp(min=1)
        p, q = self.means - means
        apart = torch.stack([p * p, q * q, p * q]) * self.count
        return Sums(count, correlation, means, sum_over_processes(self.moments + apart))


class Slopes(NamedTuple):
    """The gradient's coefficients, in float64: with p, q and a row's centred probabilities a, b it is

    J [own·(p - mean) + other·(q - mean) + row·∂Pearson(a, b)/∂a], J being the Jacobian of the activation.
    """

    means: Tensor  # (2, C): of p and q
    own: Tensor  # (C,)
    other: Tensor  # (C,)
    row: Tensor  # 0-dim

    def times(self, factor: Tensor) -> "Slopes":
        """Those of factor · loss."""
        return Slopes(self.means, self.own * factor, self.other * factor, self.row * factor)


def finish(sums: Sums, relation: Relation) -> tuple[Tensor, Slopes]:
    """The loss (0-dim, float64) and its gradient's coefficients."""
    beta, gamma, tau, _, eps = relation
    count = sums.count.clamp(min=1)
    student, teacher = sums.moments[:2].clamp(min=0).sqrt()
    product = student * teacher + eps
    columns = sums.moments[2] / product
    inter = (sums.count - sums.correlation) / count
    intra = (1 - columns).mean() * (sums.count > 0)
    other = -tau * gamma / columns.numel() / product
    # Where a column is constant its length has no slope.
    own = -other * columns * torch.where(student > 0, teacher / student, 0)
    return tau**2 * (beta * inter + gamma * intra), Slopes(sums.means, own, other, -tau * beta / count)
