"""Taps on a segmentation network's output."""

from collections.abc import Collection, Mapping, Sequence

from torch import Tensor

from densedist.common.distill.taps import per_cell, per_class, per_image


def taps(needed: Collection[str], output: Mapping[str, Tensor], labels: Tensor) -> dict[str, Sequence[Tensor]]:
    """Those of the taps that are needed, each with one tensor.

    cls_logits, logit_maps (the same) and aux_logits (N, K, h, w); features (N, C, h, w), the encoder's last
    stage; and of these features the means of each image, of each cell of a 4x4 grid, and of each class.

    Args:
        output: of seg.network.Network.
        labels: trainIds (N, h, w) at the resolution of the features.
    """
    features = output["features"]
    make = {
        "cls_logits": lambda: output["cls_logits"],
        "logit_maps": lambda: output["cls_logits"],
        "aux_logits": lambda: output["aux_logits"],
        "features": lambda: features,
        "images": lambda: per_image(features),
        "cells": lambda: per_cell(features),
        "classes": lambda: per_class(features, labels),
    }
    return {name: [tap()] for name, tap in make.items() if name in needed}


#### MERGED FROM seg.resizing
"""Between the resolution of logits and that of labels: corner pixels lie on corner pixels."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def resize(logits: Tensor, size: Sequence[int]) -> Tensor:
    """(N, K, h, w) -> (N, K, *size), bilinear with aligned corners."""
    if logits.shape[2:] == torch.Size(size):
        return logits
    return F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=True)


def nearest(labels: Tensor, size: Sequence[int]) -> Tensor:
    """(N, H, W) -> (N, *size): at each place of the smaller grid the label that lies nearest."""
    rows, columns = (
        torch.linspace(0, full - 1, small, device=labels.device).round().long()
        for full, small in zip(labels.shape[1:], size, strict=True)
    )
    return labels[:, rows][:, :, columns]
