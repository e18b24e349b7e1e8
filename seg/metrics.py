"""Scores of a confusion matrix."""

from collections.abc import Sequence

import torch
from torch import Tensor

from seg.labels import IGNORE


def confusion_matrix(truth: Tensor, prediction: Tensor, classes: int) -> Tensor:
    """Pixel counts, rows = truth, columns = prediction.

    Args:
        truth: trainIds, integers of any shape; pixels of IGNORE are left out.
        prediction: trainIds below classes, of the same shape.

    Returns:
        int64 (classes, classes), on the tensors' device.
    """
    # IGNORE has a row of its own, far below: leaving it out here costs less than leaving out its pixels.
    pairs = (IGNORE + 1) * classes
    # Short numbers are counted five times as fast.
    dtype = torch.int16 if pairs <= torch.iinfo(torch.int16).max else torch.int64
    numbers = truth.flatten().to(dtype, copy=True).mul_(classes).add_(prediction.flatten().to(dtype))
    return torch.bincount(numbers, minlength=pairs)[: classes**2].view(classes, classes)


def scores(confusion: Tensor, names: Sequence[str]) -> dict[str, float]:
    """mIoU, mACC, pACC and each class's IoU, in percent.

    IoU is TP / (TP + FP + FN) over all images together, as Cityscapes counts it. A class that neither truth
    nor prediction has is undefined (NaN) and not part of the mean; nor, for mACC, is one without truth.

    Args:
        confusion: (K, K) as from confusion_matrix.
        names: the K class names.

    Returns:
        {"mIoU": …, "mACC": …, "pACC": …, "IoU-<class>": …}
    """
    confusion = confusion.double()
    hits, truth, predicted = confusion.diag(), confusion.sum(1), confusion.sum(0)
    iou = 100 * hits / (truth + predicted - hits)  # 0 / 0 is NaN
    accuracy = 100 * hits / truth
    result = {"mIoU": iou.nanmean(), "mACC": accuracy.nanmean(), "pACC": 100 * hits.sum() / truth.sum()}
    result |= {f"IoU-{name}": value for name, value in zip(names, iou, strict=True)}
    return {name: float(value) for name, value in result.items()}
