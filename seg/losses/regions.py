"""Losses of the region of each class as a whole: Dice, and the Jaccard index by Lovász' extension.

All take logits (N, K, H, W), float32 or float64, and labels (N, H, W), int64: trainIds, and IGNORE where a pixel does
not count. They give a 0-dim tensor, 0 where no pixel counts.
"""

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from densedist.common.distributed import mean_over_processes, sum_over_processes
from densedist.seg.labels import IGNORE

EPS = 1e-7


class DiceLoss(nn.Module):
    """1 - 2·Σ p·y / (Σ p + Σ y), sums over all labeled pixels of a batch; the mean over the classes, of which those
    without a label give 0 (Milletari et al., 3DV 2016, without squares: SMP's DiceLoss).

    The sums are over all processes: with k of them value and gradient are those of one.
    """

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss; see the module."""
        counts = (labels != IGNORE)[:, None]
        found = logits.softmax(1) * counts
        truth = F.one_hot(labels.where(counts[:, 0], 0), logits.shape[1]).movedim(-1, 1) * counts
        sums = [x.sum((0, 2, 3), dtype=torch.float64) for x in (found * truth, found, truth)]
        both, ours, theirs = sum_over_processes(torch.stack(sums))
        losses = (1 - 2 * both / (ours + theirs).clamp(min=EPS)) * (theirs > 0)
        return losses.mean().to(logits.dtype)


class LovaszLoss(nn.Module):
    """The Lovász-Softmax loss (Berman et al., CVPR 2018), SMP's: of the pixels of a batch, a mean over its classes.

    It sorts pixels, those of one process: with k of them the loss is the mean over the processes that have labels, and
    not quite that of one process with all images.
    """

    def __init__(self) -> None:
        super().__init__()
        self.loss = smp.losses.LovaszLoss("multiclass", ignore_index=IGNORE)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss; see the module."""
        labeled = (labels != IGNORE).any()
        share = mean_over_processes(labeled.to(torch.float64))
        loss = self.loss(logits.float(), labels) if labeled else 0 * logits.float().sum()  # SMP's knows float32 alone
        return (loss / share.where(share > 0, 1)).to(logits.dtype)
