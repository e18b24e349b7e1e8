"""Taps on a segmentation network's output, and the step from one resolution to another."""

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from densedist.common.distill.taps import TapSpec, per_cell, per_class, per_image
from densedist.seg.network import Network

CLASS_LOGITS = ("cls_logits", "logit_maps", "aux_logits")  # the taps with a row for each pixel


def tap_specs(network: Network, classes: int, aux_weight: float) -> dict[str, TapSpec]:
    """The taps that taps() gives for a network.

    Args:
        aux_weight: of the auxiliary head's losses.
    """
    channels = (network.smp.encoder.out_channels[-1],)
    logits = TapSpec("maps", (classes,), "softmax")
    specs = {"cls_logits": logits, "logit_maps": logits, "features": TapSpec("maps", channels)}
    specs |= dict.fromkeys(("images", "cells", "classes"), TapSpec("samples", channels))
    if network.aux_head is not None:
        specs["aux_logits"] = TapSpec("maps", (classes,), "softmax", "cls_logits", aux_weight)
    return specs


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


def resize(logits: Tensor, size: Sequence[int]) -> Tensor:
    """(N, K, h, w) -> (N, K, *size), bilinear; corner pixels lie on corner pixels."""
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
