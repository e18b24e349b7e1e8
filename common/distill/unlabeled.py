"""Images without labels: batches that have them too, and how much they count in distillation."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import Tensor

from densedist.common.data.loader import Batches, Joined
from densedist.common.distill.registry import is_on
from densedist.common.errors import UserError


def labeled_and_unlabeled(
    cfg: CfgNode, labeled: Callable[[int], Batches], unlabeled: Callable[[int], Batches]
) -> Batches:
    """Return the training batches of DATASETS.TRAIN and DATASETS.UNLABELED.

    Args:
        labeled, unlabeled: make a loader of that many images per batch, over all processes.

    Raises:
        UserError: no data at all, or images without labels and nothing to learn from them.
    """
    count = cfg.SOLVER.IMS_PER_BATCH
    if not cfg.DATASETS.UNLABELED:
        if not cfg.DATASETS.TRAIN:
            raise UserError("DATASETS.TRAIN is empty: name the training data")
        return labeled(count)
    if not is_on(cfg.DISTILL):
        raise UserError("DATASETS.UNLABELED is set, but there is no teacher: set DISTILL.TEACHER and a loss")
    extra = cfg.SOLVER.UNLABELED_IMS_PER_BATCH or count
    return Joined(labeled(count), unlabeled(extra)) if cfg.DATASETS.TRAIN else unlabeled(extra)


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factors: Tensor) -> Tensor:
        ctx.save_for_backward(factors)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (factors,) = ctx.saved_tensors
        return gradient * factors.view(-1, *[1] * (gradient.dim() - 1)), None


def scale_gradient(x: Tensor, factors: Sequence[float]) -> Tensor:
    """Return x; on its way back, the gradient of each image is multiplied by that image's factor.

    So one loss on all images of a batch can count some of them more or less, whatever it does with the batch.

    Args:
        x: (N, *).
        factors: N.
    """
    return _ScaleGradient.apply(x, x.new_tensor(factors))
