"""What a segmentation model learns from labels by: losses of logits and trainIds, and their weighted sum."""

from densedist.seg.losses.pixels import CrossEntropyLoss, FocalLoss, OHEMLoss
from densedist.seg.losses.regions import DiceLoss, LovaszLoss
from densedist.seg.losses.task import LOSSES, TaskLosses, check_kept, switched_on

__all__ = [
    "LOSSES",
    "CrossEntropyLoss",
    "DiceLoss",
    "FocalLoss",
    "LovaszLoss",
    "OHEMLoss",
    "TaskLosses",
    "check_kept",
    "switched_on",
]
