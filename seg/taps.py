"""Taps on a segmentation network's output."""

from collections.abc import Collection, Mapping, Sequence

from torch import Tensor

from densedist.common.distill.taps import TapSpec, per_cell, per_class, per_image
from densedist.seg.dense import DenseModel

# The taps with a row for each pixel, and of which of a network's outputs each is.
CLASS_LOGITS = {"cls_logits": "cls_logits", "logit_maps": "cls_logits", "aux_logits": "aux_logits"}


def tap_specs(network: DenseModel, classes: int, aux_weight: float) -> dict[str, TapSpec]:
    """The taps that taps() gives for a network.

    Args:
        aux_weight: of the auxiliary head's losses.
    """
    logits = TapSpec("maps", (classes,), "softmax")
    specs = {"cls_logits": logits, "logit_maps": logits}
    if network.feature_channels is not None:
        channels = (network.feature_channels,)
        specs["features"] = TapSpec("maps", channels)
        specs |= dict.fromkeys(("images", "cells", "classes"), TapSpec("samples", channels))
    if network.gives_aux:
        specs["aux_logits"] = TapSpec("maps", (classes,), "softmax", "cls_logits", aux_weight)
    return specs


def taps(needed: Collection[str], output: Mapping[str, Tensor], labels: Tensor) -> dict[str, Sequence[Tensor]]:
    """Those of the taps that are needed, each with one tensor.

    cls_logits, logit_maps (the same) and aux_logits (N, K, h, w); features (N, C, h, w), the encoder's last
    stage; and of these features the means of each image, of each cell of a 4x4 grid, and of each class.

    Args:
        output: of a seg.dense.DenseModel.
        labels: trainIds (N, h, w) at the resolution of the features.
    """
    make = {
        "cls_logits": lambda: output["cls_logits"],
        "logit_maps": lambda: output["cls_logits"],
        "aux_logits": lambda: output["aux_logits"],
        "features": lambda: output["features"],
        "images": lambda: per_image(output["features"]),
        "cells": lambda: per_cell(output["features"]),
        "classes": lambda: per_class(output["features"], labels),
    }
    return {name: [tap()] for name, tap in make.items() if name in needed}
