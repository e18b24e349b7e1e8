"""Taps on a segmentation network's output, and the step from one resolution to another."""

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from densedist.common.distill.taps import TapSpec, per_cell, per_class, per_image
from densedist.common.losses.checks import widen
from densedist.seg.network import Network

# The taps with a row for each pixel, and of which of a network's outputs each is.
CLASS_LOGITS = {"cls_logits": "cls_logits", "logit_maps": "cls_logits", "aux_logits": "aux_logits"}


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


def resize(logits: Tensor, size: Sequence[int]) -> Tensor:
    """(N, K, h, w) -> (N, K, *size), bilinear; corner pixels lie on corner pixels."""
    if logits.shape[2:] == torch.Size(size):
        return logits
    return F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=True)


def resize_at(maps: Tensor, size: Sequence[int], pixels: Sequence[int], wanted: Sequence[int]) -> Tensor:
    """(N, K, h, w) -> (N, K, *size), bilinear, for two maps of the same images padded to batches of different sizes.

    Corner places lie on the corner pixels of their own batch, on both sides: place i of n lies at pixel
    i·(pixels - 1) / (n - 1). Beyond the border of its batch a map has its border's values. For batches of one size
    it is resize().

    Args:
        maps: over a batch of `pixels` (height, width).
        size: of the result, a map over a batch of `wanted` (height, width).
    """
    if tuple(pixels) == tuple(wanted):
        return resize(maps, size)
    result = widen(maps)
    for dim, places in enumerate(size, start=2):
        result = _line(result, dim, places, pixels[dim - 2], wanted[dim - 2])
    return result.to(maps.dtype)


def _line(maps: Tensor, dim: int, places: int, pixels: int, wanted: int) -> Tensor:
    """resize_at along one dimension."""
    last = maps.shape[dim] - 1
    # In float32 whatever the maps are in: float16 knows no place 1024.5.
    end = (wanted - 1) * last / max(pixels - 1, 1)
    at = torch.linspace(0, end, places, dtype=torch.float32, device=maps.device).clamp(max=last)
    low = at.long()
    weight = (at - low).to(maps.dtype).view(-1, *[1] * (maps.dim() - 1 - dim))
    above = (low + 1).clamp(max=last)
    return maps.index_select(dim, low).lerp(maps.index_select(dim, above), weight)


def sample_at(maps: Tensor, places: Tensor, pixels: Sequence[int]) -> Tensor:
    """(C, h, w) -> (C, a, b): bilinear, at any places (2, a, b) given as x and y in pixels; NaN where a place is NaN.

    Args:
        maps: over an image of `pixels` (height, width), corner places on corner pixels; beyond it they have their
            border's values.
    """
    last = places.new_tensor([max(pixels[1] - 1, 1), max(pixels[0] - 1, 1)])
    grid = 2 * places.movedim(0, -1) / last - 1
    known = grid.isfinite().all(-1)
    found = F.grid_sample(maps[None], grid.nan_to_num()[None], padding_mode="border", align_corners=True)[0]
    return found.where(known, torch.nan)


def nearest(labels: Tensor, size: Sequence[int]) -> Tensor:
    """(N, H, W) -> (N, *size): at each place of the smaller grid the label that lies nearest."""
    rows, columns = (
        torch.linspace(0, full - 1, small, device=labels.device).round().long()
        for full, small in zip(labels.shape[1:], size, strict=True)
    )
    return labels[:, rows][:, :, columns]
