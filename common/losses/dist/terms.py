"""DIST's arithmetic around its two passes over the logits, whichever backend makes them.

The first pass gives Sums, about a shift that is the mean of a sample of the rows; finish() makes the loss of them, and
the Slopes that the second pass turns into the gradient.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from densedist.common.distributed import sum_over_processes
from densedist.common.losses.checks import Activation

# In place of lengths of 0, whose slope is 0 · (something / 0).
TINY = 1e-30
# The rows that the shift is taken of: about so many at most, of so many images if the batch has them.
SAMPLED_ROWS, SAMPLED_IMAGES = 128, 16


class Relation(NamedTuple):
    """What is compared, and how strongly each relation counts: see DISTLoss."""

    beta: float
    gamma: float
    tau: float
    activation: Activation
    eps: float


class Sums(NamedTuple):
    """What the loss needs of the logits, in float64; p are the student's probabilities, q the teacher's."""

    rows: Tensor  # 0-dim: how many count
    correlation: Tensor  # 0-dim: the sum of their Pearson correlations
    means: Tensor  # (2, C): of p and q over the rows
    moments: Tensor  # (3, C): Σ(p - mean)², Σ(q - mean)², Σ(p - mean)(q - mean)

    @classmethod
    def of(cls, rows: Tensor, correlation: Tensor, shift: Tensor, sums: Tensor) -> "Sums":
        """Build them from sums about a shift near the means, for which float32 suffices.

        Args:
            shift: (2, C), of p and q.
            sums: (5, C): with the shift subtracted Σp, Σq, Σp², Σq², Σpq.
        """
        first = sums[:2]
        offset = first / rows.clamp(min=1)
        apart = torch.cat([first * offset, first[:1] * offset[1:]])
        return cls(rows, correlation, shift + offset, sums[2:] - apart)

    def over_processes(self) -> "Sums":
        """Return the sums over the rows of all processes: two all-reduces, of 2 + 2·C and 3·C numbers."""
        local = torch.cat([self.rows.view(1), self.correlation.view(1), (self.rows * self.means).flatten()])
        total = sum_over_processes(local)
        rows, correlation = total[0], total[1]
        means = total[2:].view_as(self.means) / rows.clamp(min=1)
        apart = self.means - means
        products = torch.cat([apart * apart, apart[:1] * apart[1:]])
        return Sums(rows, correlation, means, sum_over_processes(self.moments + self.rows * products))


class Slopes(NamedTuple):
    """The gradient's coefficients, in float64: with p, q and a row's centered probabilities a, b it is

    J [own·(p - mean) + other·(q - mean) + row·∂Pearson(a, b)/∂a], J being the Jacobian of the activation.
    """

    means: Tensor  # (2, C): of p and q
    own: Tensor  # (C,)
    other: Tensor  # (C,)
    row: Tensor  # 0-dim

    def times(self, factor: Tensor) -> "Slopes":
        """Return the slopes of factor · loss."""
        return Slopes(self.means, self.own * factor, self.other * factor, self.row * factor)


def finish(sums: Sums, relation: Relation) -> tuple[Tensor, Slopes]:
    """Return the loss (0-dim, float64) and its gradient's coefficients."""
    beta, gamma, tau, _, eps = relation
    rows = sums.rows.clamp(min=1)
    lengths = sums.moments[:2].clamp(min=0).sqrt()
    student, teacher = lengths[0], lengths[1]
    product = torch.add(eps, student * teacher)
    columns = sums.moments[2] / product
    inter, intra = 1 - sums.correlation / rows, 1 - columns.mean()
    loss = tau**2 * (beta * inter + gamma * intra) * sums.rows.clamp(max=1)  # 0 where no row counts
    other = (-tau * gamma / columns.numel()) / product
    own = -other * columns * (teacher / student.clamp(min=TINY))
    return loss, Slopes(sums.means, own, other, (-tau * beta) / rows)


def sample_strides(images: int, places: int) -> tuple[int, int]:
    """Return the strides of the sample: over images, and over places."""
    by_image = _stride(images, max(SAMPLED_ROWS // places, SAMPLED_IMAGES))
    return by_image, _stride(places, max(1, SAMPLED_ROWS // -(-images // by_image)))


def _stride(size: int, most: int) -> int:
    """Return the stride that leaves at most so many; odd, so that it is seldom a multiple of an image's width."""
    return -(-size // most) | 1
