"""Where on a map the labeled objects are."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from detectron2.structures import Boxes
from torch import Tensor

from densedist.common.distill.taps import UNLABELED


def object_scales(inputs: Sequence[Mapping[str, Any]], maps: Tensor, stride: int) -> Tensor:
    """For each place one over the number of places of the smallest object that has it: (N, H, W), float32.

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
    """(H, W)."""
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
