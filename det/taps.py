"""Taps on the maps of a Detectron2 backbone, for all detectors alike."""

from collections.abc import Collection, Mapping, Sequence

from detectron2.modeling import Backbone
from torch import Tensor

from densedist.common.distill.taps import TapSpec, per_cell, per_image

# Names of the student's maps and of the teacher's that have the same strides, from fine to coarse.
Levels = tuple[list[str], list[str]]


def shared_levels(student: Backbone, teacher: Backbone) -> Levels:
    """The maps that both backbones have, matched by stride; none where they pad images to different sizes."""
    if student.size_divisibility != teacher.size_divisibility:
        return [], []
    ours, theirs = ({shape.stride: name for name, shape in b.output_shape().items()} for b in (student, teacher))
    strides = sorted(set(ours) & set(theirs))
    return [ours[stride] for stride in strides], [theirs[stride] for stride in strides]


def feature_specs(backbone: Backbone, levels: Sequence[str]) -> dict[str, TapSpec]:
    """The taps that feature_taps gives; none without a level."""
    channels = tuple(backbone.output_shape()[name].channels for name in levels)
    if not channels:
        return {}
    return {
        "features": TapSpec("maps", channels),
        "images": TapSpec("samples", channels),
        "cells": TapSpec("samples", channels),
    }


def feature_taps(
    needed: Collection[str], features: Mapping[str, Tensor], levels: Sequence[str]
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
