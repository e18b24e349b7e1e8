"""Taps on the maps of a Detectron2 backbone, for all detectors alike."""

from collections.abc import Collection, Mapping, Sequence

from detectron2.modeling import Backbone
from torch import Tensor

from densedist.common.distill.taps import per_cell, per_image

# Names of the maps of student and teacher that have the same stride, from fine to coarse.
Levels = list[tuple[str, str]]


def shared_levels(student: Backbone, teacher: Backbone) -> Levels:
    """The maps that both backbones have, matched by stride."""
    ours, theirs = ({shape.stride: name for name, shape in b.output_shape().items()} for b in (student, teacher))
    return [(ours[stride], theirs[stride]) for stride in sorted(set(ours) & set(theirs))]


def offer(backbone: Backbone, levels: list[str]) -> dict[str, Sequence[int]]:
    """The taps that feature_taps gives, with their channels; none where no level is shared."""
    channels = [backbone.output_shape()[name].channels for name in levels]
    return dict.fromkeys(("features", "images", "cells"), channels) if channels else {}


def feature_taps(
    needed: Collection[str], features: Mapping[str, Tensor], levels: list[str]
) -> dict[str, Sequence[Tensor]]:
    """Those of the taps features, images and cells that are needed, each with a tensor per level.

    Args:
        features: maps (N, C, H, W) by name.
        levels: the names to take.
    """
    maps = [features[name] for name in levels]
    make = {
        "features": lambda: maps,
        "images": lambda: [per_image(x) for x in maps],
        "cells": lambda: [per_cell(x) for x in maps],
    }
    return {name: tap() for name, tap in make.items() if name in needed}
