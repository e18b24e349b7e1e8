"""Taps on the maps of both backbones: any Detectron2 detector teaches any other where strides are the same."""

import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from detectron2.modeling import Backbone
from detectron2.structures import Boxes
from torch import Tensor

from densedist.common.distill.taps import (
    UNLABELED,
    Extent,
    Tap,
    Taps,
    TapSpec,
    TapSpecs,
    inside_of,
    per_cell,
    per_image,
)
from densedist.common.modules import record
from densedist.det.taps.group import AVERAGED, TapGroup
from densedist.det.teacher.teacher import DetPending, DetTeacher

# Names of the student's maps and of the teacher's that have the same strides, from fine to coarse.
Levels = tuple[list[str], list[str]]


def shared_levels(student: Backbone, teacher: Backbone) -> Levels:
    """Return the names of the maps that both backbones have, matched by stride."""
    ours, theirs = ({shape.stride: name for name, shape in b.output_shape().items()} for b in (student, teacher))
    strides = sorted(set(ours) & set(theirs))
    return [ours[stride] for stride in strides], [theirs[stride] for stride in strides]


def common_extents(
    student: Backbone, teacher: Backbone, levels: Sequence[str], images: Sequence[Tensor]
) -> list[Extent] | None:
    """Return what both backbones see of a batch, map by map; None where they pad it alike and so have equal maps.

    They pad below and on the right only: what is left without the padding, or with as little of it as a stride
    leaves, is at the same place in both.

    Args:
        levels: names of the student's maps.
        images: the batch, each (3, H, W), before any padding.
    """
    if _padding(student) == _padding(teacher):
        return None
    height, width = (max(image.shape[axis] for image in images) for axis in (1, 2))
    strides = [student.output_shape()[name].stride for name in levels]
    return [(math.ceil(height / stride), math.ceil(width / stride)) for stride in strides]


def _padding(backbone: Backbone) -> tuple[int, int]:
    return max(backbone.size_divisibility, 1), backbone.padding_constraints.get("square_size", 0)


def feature_specs(backbone: Backbone, levels: Sequence[str]) -> dict[str, TapSpec]:
    """Return the specs of the taps that feature_taps gives; none without a level."""
    channels = tuple(backbone.output_shape()[name].channels for name in levels)
    if not channels:
        return {}
    return {
        "features": TapSpec("maps", channels, targets="objects"),
        "images": TapSpec("samples", channels),
        "cells": TapSpec("samples", channels),
    }


def feature_taps(
    needed: Collection[str],
    features: Mapping[str, Tensor],
    levels: Sequence[str],
    extents: Sequence[Extent] | None = None,
    images: Sequence[Sequence[Extent]] | None = None,
) -> dict[str, Sequence[Tensor]]:
    """Return those of one side's features, images and cells that are needed, each with a tensor per level.

    Args:
        features: maps (N, C, H, W) by name.
        levels: the names to take.
        extents: how much of each map both sides have, from its top left corner; all of it by default.
        images: of each map how much of it each image has; the rest is padding, which images and cells leave out.
    """
    maps = [features[name] for name in levels]
    if extents is not None:
        maps = [x[..., :height, :width] for x, (height, width) in zip(maps, extents, strict=True)]
    each = images or [()] * len(maps)
    make = {
        "features": lambda: maps,
        "images": lambda: [per_image(x, own) for x, own in zip(maps, each, strict=True)],
        "cells": lambda: [per_cell(x, own) for x, own in zip(maps, each, strict=True)],
    }
    return {name: tap() for name, tap in make.items() if name in needed}


class Features(TapGroup):
    """features (N, C, H, W), and images and cells, their means: a tensor for each stride that both backbones have."""

    def specs(self, student: Any, teacher: DetTeacher) -> tuple[TapSpecs, TapSpecs]:
        backbones = student.backbone, teacher.model.backbone
        ours, theirs = (
            feature_specs(backbone, levels)
            for backbone, levels in zip(backbones, shared_levels(*backbones), strict=True)
        )
        return ours, {} if self.lacking(student, teacher) else theirs

    def lacking(self, student: Any, teacher: DetTeacher) -> dict[str, str]:
        if teacher.others:
            why = AVERAGED
        elif teacher.scale != 1:
            why = "with DISTILL.TEACHER.INPUT_SCALE the teacher's maps lie otherwise on the student's image"
        elif not shared_levels(student.backbone, teacher.model.backbone)[0]:
            why = "the backbones have no stride in common"
        else:
            return {}
        return dict.fromkeys(("features", "images", "cells"), why)

    def record(self, student: Any) -> AbstractContextManager[list[dict[str, Tensor]]]:
        return record(student.backbone, lambda _, output: output)

    def taps(
        self, needed: Collection[str], student: Any, recorded: list[dict[str, Tensor]], pending: DetPending
    ) -> Taps:
        backbones = student.backbone, pending.teacher.model.backbone
        levels, their_levels = shared_levels(*backbones)
        extents = common_extents(*backbones, levels, [sample["image"] for sample in pending.samples])
        strides = [student.backbone.output_shape()[name].stride for name in levels]
        images = pending.extents(strides)
        ours = feature_taps(needed, recorded[0], levels, extents, images)
        with pending.teacher.alone():
            theirs = feature_taps(needed, pending.maps, their_levels, extents, images)
        taps = {name: Tap(ours[name], theirs[name]) for name in ours}
        if "features" in taps:
            maps = ours["features"]
            inside = [inside_of(x, of_map) for x, of_map in zip(maps, images, strict=True)]
            targets = partial(_scales_of, pending, maps, strides)
            taps["features"] = Tap(maps, theirs["features"], inside, targets)
        return taps


def _scales_of(pending: DetPending, maps: Sequence[Tensor], strides: Sequence[int]) -> list[Tensor]:
    return [object_scales(pending.samples, x, stride) for x, stride in zip(maps, strides, strict=True)]


def object_scales(inputs: Sequence[Mapping[str, Any]], maps: Tensor, stride: int) -> Tensor:
    """Return for each place one over the number of places of the smallest object that has it: (N, H, W), float32.

    An object has the places that its box touches; one beyond the map's border has none. 0 in the background, which
    padding is, too; UNLABELED all over an image without labels.

    Args:
        inputs: samples with "instances", where they have labels.
        maps: (N, C, H, W), whose top left corner is that of the images.
        stride: of the map, in pixels.
    """
    size = (maps.shape[2], maps.shape[3])
    scales = []
    for sample in inputs:
        if "instances" in sample:
            scales.append(_scales(sample["instances"].gt_boxes.to(maps.device), size, stride))
        else:
            scales.append(torch.full(size, float(UNLABELED), device=maps.device))
    return torch.stack(scales)


def _scales(boxes: Boxes, size: tuple[int, int], stride: int) -> Tensor:
    """Return the scales (H, W) of one image: see object_scales."""
    x0, y0, x1, y1 = (boxes.tensor / stride).unbind(1)
    inside = []
    for length, first, last in zip(size, (y0, x0), (y1, x1), strict=True):
        place = torch.arange(length, device=first.device)
        first = first.floor()
        # A box of no height or width has a place, too.
        inside.append((place >= first[:, None]) & (place < torch.maximum(last.ceil(), first + 1)[:, None]))
    rows, columns = inside
    count = rows.sum(1) * columns.sum(1)
    scale = (1 / count.clamp(min=1)).view(-1, 1, 1)
    each = torch.where(rows[:, :, None] & columns[:, None, :], scale, 0)
    return torch.cat([each.new_zeros(1, *size), each]).amax(0)
