"""CutMix (Yun et al., ICCV 2019) of images without true labels: each shows a part of the next one of its batch.

A rectangle of the image, and of all that has a value for each of its pixels, is that of the next image without true
labels; so is the view of a live teacher, and what a cached one gives there (mix_maps). What distillation compares is of
the same pixels on both sides.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from torch import Tensor

from densedist.common.data.loader import Sample, images_per_process
from densedist.common.distill.views import is_true
from densedist.common.errors import UserError

KEY = "PSEUDO_LABELS.CUTMIX"
BOX, PARTNER = "cutmix", "cutmix_partner"  # keys of a sample: see Boxes and mix
Box = tuple[int, int, int, int]  # the first row, the first column, and those behind the last ones


class Boxes:
    """A mapper whose samples without true labels have "cutmix": the Box that is to show another image, or None.

    Args:
        mapper: gives samples of seg.data.reading.Reader.
        probability: of a Box.
    """

    def __init__(self, mapper: Callable[[Any], Sample], probability: float) -> None:
        self.mapper, self.probability = mapper, probability

    def __call__(self, item: Any) -> Sample:
        sample = self.mapper(item)
        if is_true(sample, "sem_seg"):
            return sample
        drawn = np.random.random() < self.probability
        return sample | {BOX: _draw(*sample["image"].shape[1:]) if drawn else None}


def _draw(height: int, width: int) -> Box:
    """Draw a rectangle: of the image's aspect ratio, any share of its area as likely, its center anywhere, clipped."""
    half = np.sqrt(np.random.random()) / 2
    (top, bottom), (left, right) = _span(half, height), _span(half, width)
    return top, left, bottom, right


def _span(half: float, length: int) -> tuple[int, int]:
    """Draw the middle of a part of so many pixels, and return where the part begins and ends.

    Args:
        half: of the part's length, as a share of all.
    """
    middle = np.random.random()
    return round(max(middle - half, 0.0) * length), round(min(middle + half, 1.0) * length)


def mix(batch: list[Sample]) -> list[Sample]:
    """Return the samples of a loader with the rectangles that Boxes has drawn filled.

    A sample that has become another has "cutmix_partner": how many places behind it in the batch the image is that it
    shows a part of. Images with labels show only such, and so do those without.
    """
    result = list(batch)
    numbers = [number for number, sample in enumerate(batch) if BOX in sample]
    for _, members in groupby(sorted(numbers, key=lambda n: "sem_seg" in batch[n]), lambda n: "sem_seg" in batch[n]):
        group = list(members)
        for number, other in zip(group, [*group[1:], group[0]], strict=True):
            if other != number and (box := batch[number][BOX]):
                result[number] = _filled(batch[number], batch[other], box) | {PARTNER: other - number}
    return result


def _filled(sample: Sample, other: Sample, box: Box) -> Sample:
    top, left, bottom, right = box
    size, filled = sample["image"].shape[1:], {}
    for name, value in sample.items():
        if isinstance(value, Tensor) and value.shape[-2:] == size:
            filled[name] = value.clone()
            filled[name][..., top:bottom, left:right] = other[name][..., top:bottom, left:right]
    return sample | filled


def mix_maps(maps: Sequence[Tensor], samples: Sequence[Mapping[str, Any]], size: Sequence[int]) -> list[Tensor]:
    """Return the maps of a batch's whole images as of what mix has made of them.

    Args:
        maps: (C, h, w) of each image before, whose corner places lie on the corner pixels of the batch.
        samples: of the batch.
        size: height and width of the batch in pixels.
    """
    result = list(maps)
    for number, sample in enumerate(samples):
        if PARTNER in sample:
            top, left, bottom, right = sample[BOX]
            rows, columns = (
                _inside(length, count, first, end, maps[number].device)
                for length, count, first, end in zip(
                    size, maps[number].shape[1:], (top, left), (bottom, right), strict=True
                )
            )
            result[number] = maps[number + sample[PARTNER]].where(rows[:, None] & columns, maps[number])
    return result


def _inside(length: int, count: int, first: int, end: int, device: torch.device) -> Tensor:
    """Return which of so many places over `length` pixels lie on the pixels from first up to end, bool (count,)."""
    pixel = torch.linspace(0, length - 1, count, dtype=torch.float64, device=device).round()
    return (pixel >= first) & (pixel < end)


def check_partners(cfg: CfgNode, images: int, key: str) -> None:
    """Make sure that a process has another image to take a part of.

    Args:
        images, key: see common.data.loader.build_loader.

    Raises:
        UserError: naming the key.
    """
    if cfg.PSEUDO_LABELS.CUTMIX and images_per_process(cfg, images, key) < 2:
        raise UserError(
            f"{KEY} shows a part of another image of the batch, but {key} gives a process one image at a time: raise "
            f"{key}, or set {KEY} to 0"
        )
