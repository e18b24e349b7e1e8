"""Taps on the maps of a segmentation network and of its teacher."""

from collections.abc import Callable, Collection, Mapping
from functools import partial

from torch import Tensor

from densedist.common.distill.taps import UNLABELED, Tap, TapSpec, per_cell, per_class, per_image
from densedist.seg.labels import IGNORE
from densedist.seg.networks.dense import DenseModel
from densedist.seg.networks.resampling import nearest

# The taps that are class logits, and of which of a network's maps each is.
CLASS_LOGITS = {"cls_logits": "cls_logits", "logit_maps": "cls_logits", "aux_logits": "aux_logits"}


def tap_specs(network: DenseModel, classes: int, aux_weight: float) -> dict[str, TapSpec]:
    """Return the specs of the taps that taps() gives for a network.

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


def taps(
    needed: Collection[str],
    student: Mapping[str, Tensor],
    teacher: Mapping[str, Tensor],
    labels: Tensor,
    valid: Mapping[str, Tensor] | None = None,
) -> dict[str, Tap]:
    """Return those of the taps that are needed, each with one tensor.

    cls_logits, logit_maps (the same) and aux_logits: (N, K, h, w), with the classes of labels as targets.
    features: (N, C, h, w), the encoder's last stage.
    images, cells, classes: the means of these features over each image, each cell of a 4x4 grid, each class.

    Args:
        student, teacher: maps of a seg.networks.dense.DenseModel by name, the teacher's at the student's places.
        labels: trainIds (N, H, W) of the batch, at its resolution.
        valid: for maps of class logits by name bool (N, h, w), the places that count; without an entry all do.
    """
    pools: dict[str, Callable[[Tensor], Tensor]] = {
        "features": _whole,
        "images": per_image,
        "cells": per_cell,
        "classes": partial(_class_means, labels),
    }
    found = {}
    for name in needed:
        if of := CLASS_LOGITS.get(name):
            mask = (valid or {}).get(of)
            found[name] = Tap([student[of]], [teacher[of]], [mask], partial(_targets, labels, student[of]))
        else:
            ours, theirs = ([pools[name](maps["features"])] for maps in (student, teacher))
            found[name] = Tap(ours, theirs)
    return found


def _whole(features: Tensor) -> Tensor:
    return features


def _class_means(labels: Tensor, features: Tensor) -> Tensor:
    """Return the means of features (N, C, h, w) over the places of each class, for labels (N, H, W)."""
    return per_class(features, labels=nearest(labels, features.shape[2:]))


def _targets(labels: Tensor, logits: Tensor) -> list[Tensor]:
    """Return the classes of labels at the places of logits: (N, h, w), UNLABELED where a pixel does not count."""
    return [nearest(labels.masked_fill(labels == IGNORE, UNLABELED), logits.shape[2:])]
