"""Taps on the maps of a segmentation network and of its teacher."""

import copy
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from densedist.common.distill.taps import UNLABELED, Tap, TapSpec, per_cell, per_class, per_image
from densedist.common.losses.checks import widen
from densedist.seg.labels import IGNORE
from densedist.seg.networks.dense import LOGITS, DenseModel
from densedist.seg.networks.resampling import nearest, resize

# The taps that are class logits, and of which of a network's maps each is.
CLASS_LOGITS = {"cls_logits": "cls_logits", "logit_maps": "cls_logits", "aux_logits": "aux_logits"}


def tap_specs(
    network: DenseModel, classes: int, aux_weight: float, places: Mapping[str, str] | None = None
) -> dict[str, TapSpec]:
    """Return the specs of the taps that taps() gives for a network.

    Args:
        aux_weight: of the auxiliary head's losses.
        places: see places_in_words().
    """
    places = places or {}
    logits = TapSpec("maps", (classes,), "softmax", targets="classes", places=places.get("cls_logits", ""))
    specs = {"cls_logits": logits, "logit_maps": logits}
    if network.feature_channels is not None:
        channels = (network.feature_channels,)
        specs["features"] = TapSpec("maps", channels)
        specs |= dict.fromkeys(("images", "cells", "classes"), TapSpec("samples", channels))
    if network.gives_aux:
        specs["aux_logits"] = replace(
            logits, auxiliary_to="cls_logits", factor=aux_weight, places=places.get("aux_logits", "")
        )
    return specs


def at_stride(
    student: Mapping[str, Tensor], needed: Collection[str], stride: int, size: Sequence[int]
) -> dict[str, Tensor]:
    """Return a student's maps, with those class logits that are compared resized as its prediction is, with gradient.

    Args:
        needed: the taps that losses need.
        stride: DISTILL.LOGITS_STRIDE: of the map that they are resized to; 0 = they stay as they are.
        size: height and width of the student's batch in pixels.
    """
    if stride == 0:
        return dict(student)
    compared = {CLASS_LOGITS[tap] for tap in needed if tap in CLASS_LOGITS}
    wanted = _at_stride(size, stride)
    return {name: resize(widen(x), wanted) if name in compared else x for name, x in student.items()}


def _at_stride(size: Sequence[int], stride: int) -> list[int]:
    return [math.ceil(side / stride) for side in size]


@torch.no_grad()
def places_in_words(network: DenseModel, size: Sequence[int], stride: int) -> dict[str, str]:
    """Return for maps of class logits by name where they are compared, as "at stride 16, 10x13". No number is computed.

    Args:
        size: height and width of an image of the batch.
        stride: DISTILL.LOGITS_STRIDE.
    """
    trial = copy.deepcopy(network).eval().to("meta")
    height, width = network.padded_size([torch.empty(3, *size, device="meta")])
    try:
        maps = trial(torch.empty(1, 3, height, width, device="meta"))
    except Exception:  # encoders raise many kinds at sizes that they do not take; the first step says it in one line
        return {}
    words = {}
    for name in (name for name in LOGITS if name in maps):
        rows, columns = _at_stride((height, width), stride) if stride else maps[name].shape[2:]
        words[name] = f"at stride {height / rows:.3g}, {rows}x{columns}"
    return words


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
