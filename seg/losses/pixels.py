"""Losses that are a mean over pixels: cross entropy, of all of them, of the hard ones, or with a focus on these.

All take logits (N, K, H, W), float32 or float64, and labels (N, H, W), int64: trainIds, and IGNORE where a pixel does
not count. They give a 0-dim tensor, 0 where no pixel counts. The mean is over the labeled pixels of all processes,
weighted by class: with k processes value and gradient, averaged as DistributedDataParallel does, are those of one.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from densedist.common.distributed import gather_from_processes, mean_over_processes, sum_over_processes
from densedist.seg.labels import IGNORE


class CrossEntropyLoss(nn.Module):
    """
    Args:
        class_weights: one for each class; empty = all 1.
    """

    class_weights: Tensor | None

    def __init__(self, class_weights: Sequence[float] = ()) -> None:
        super().__init__()
        self.register_buffer("class_weights", torch.tensor(class_weights) if class_weights else None, persistent=False)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the weighted mean over the pixels; see the module."""
        weights = self._weights(logits)
        total = F.cross_entropy(logits, labels, weights, ignore_index=IGNORE, reduction="sum")
        return self._mean(total, labels, labels != IGNORE)

    def _weights(self, logits: Tensor) -> Tensor | None:
        return None if self.class_weights is None else self.class_weights.to(logits.dtype)

    def _per_pixel(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of each pixel (N, H, W), weighted, 0 where a pixel does not count."""
        return F.cross_entropy(logits, labels, self._weights(logits), ignore_index=IGNORE, reduction="none")

    def _mean(self, total: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
        """Divide the sum of this process by the weight of the pixels that count, bool (N, H, W)."""
        weight = counts if self.class_weights is None else self.class_weights[labels.where(counts, 0)] * counts
        # As the gradients of the processes are averaged, each divides by the average.
        divisor = mean_over_processes(weight.sum(dtype=torch.float64))
        return total / divisor.where(divisor > 0, 1).to(total.dtype)


class OHEMLoss(CrossEntropyLoss):
    """Cross entropy of the hard pixels: online hard example mining (Shrivastava et al., CVPR 2016), as mmsegmentation's
    OHEMPixelSampler has it for pixels.

    A pixel is hard where the probability of its class is below a threshold. Where too few are, the least probable
    ones are taken: that many of all processes' pixels together, as if there were one.

    Args:
        class_weights: see CrossEntropyLoss.
        threshold: of the probability, 0 to 1.
        min_kept: at least so many pixels for each labeled image, on average over the batch.
    """

    def __init__(self, class_weights: Sequence[float] = (), threshold: float = 0.7, min_kept: int = 100_000) -> None:
        super().__init__(class_weights)
        self.threshold, self.min_kept = threshold, min_kept

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the weighted mean over the hard pixels; see the module."""
        kept = self._hard(logits.detach(), labels)
        return self._mean((self._per_pixel(logits, labels) * kept).sum(), labels, kept)

    def _hard(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return which pixels are taken, bool (N, H, W)."""
        counts = labels != IGNORE
        found = logits.softmax(1).gather(1, labels.where(counts, 0)[:, None])[:, 0]
        hard = counts & (found < self.threshold)
        images = counts.flatten(1).any(1).sum()
        # The same on all processes, so that all take part in the same communication.
        enough, there, labeled = sum_over_processes(torch.stack([hard.sum(), counts.sum(), images])).tolist()
        wanted = min(self.min_kept * labeled, there)
        if enough >= wanted:
            return hard
        least = gather_from_processes(found[counts]).kthvalue(wanted).values
        return counts & (found <= least)


class FocalLoss(CrossEntropyLoss):
    """(1 - p)^gamma · cross entropy, p the probability of the pixel's class: the focal loss (Lin et al., ICCV 2017, eq.
    4) with a softmax over the classes instead of a sigmoid for each.

    Args:
        class_weights: see CrossEntropyLoss.
        gamma: 0 = cross entropy.
    """

    def __init__(self, class_weights: Sequence[float] = (), gamma: float = 2.0) -> None:
        super().__init__(class_weights)
        self.gamma = gamma

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the weighted mean over the pixels; see the module."""
        counts = labels != IGNORE
        logs = F.log_softmax(logits, 1).gather(1, labels.where(counts, 0)[:, None])[:, 0]
        # At p = 1, where a power below 1 has an infinite slope, the loss is 0 and so is its gradient.
        rest = -torch.expm1(logs)
        focus = rest.clamp(min=torch.finfo(rest.dtype).eps) ** self.gamma
        return self._mean((focus * self._per_pixel(logits, labels)).sum(), labels, counts)
