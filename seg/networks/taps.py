"""Taps on a segmentation network's output."""

from collections.abc import Collection, Mapping, Sequence

from torch import Tensor

from densedist.common.distill.taps import UNLABELED, TapSpec, per_cell, per_class, per_image
from densedist.seg.labels import IGNORE
from densedist.seg.networks.dense import DenseModel
from densedist.seg.networks.places import nearest

# The taps with a row for each pixel, and of which of a network's outputs each is.
CLASS_LOGITS = {"cls_logits": "cls_logits", "logit_maps": "cls_logits", "aux_logits": "aux_logits"}


def tap_specs(network: DenseModel, classes: int, aux_weight: float) -> dict[str, TapSpec]:
    """The taps that taps() gives for a network.

    Args:
        aux_weight: of the auxiliary head's losses.
    """
    logits = TapSpec("maps", (classes,), "softmax", targets="classes")
    specs = {"cls_logits": logits, "logit_maps": logits}
    if network.feature_channels is not None:
        channels = (network.feature_channels,)
        specs["features"] = TapSpec("maps", channels)
        specs |= dict.fromkeys(("images", "cells", "classes"), TapSpec("samples", channels))
    if network.gives_aux:
        specs["aux_logits"] = TapSpec("maps", (classes,), "softmax", "cls_logits", aux_weight, "classes")
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


def targets(needed: Collection[str], taps: Mapping[str, Sequence[Tensor]], labels: Tensor) -> dict[str, list[Tensor]]:
    """What labels say of those taps that are needed: (N, h, w), int64, UNLABELED where a pixel does not count.

    Args:
        taps: of class logits (N, K, h, w).
        labels: trainIds (N, H, W) of the batch.
    """
    classes = labels.masked_fill(labels == IGNORE, UNLABELED)
    return {name: [nearest(classes, x.shape[2:]) for x in taps[name]] for name in needed}
