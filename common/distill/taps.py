"""Taps: what two models give to distillation for a batch, what is known of it before, and pooled features."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from densedist.common.losses.checks import Activation, widen

Kind = Literal["rows", "maps", "samples", "boxes", "proposals", "crossed", "masks"]
# What labels say of a tap, for losses that ask.
Targets = Literal["", "classes", "objects", "anchors"]
UNLABELED = -1  # a target where the labels say nothing
# Height and width.
Extent = tuple[int, int]


@dataclass(frozen=True)
class Tap:
    """What student and teacher give for one tap in one batch: a tensor for each level, stage or call.

    Args:
        student, teacher: the tensors of each side, as TapSpec says; the gradient flows to the student's.
        valid: for each tensor a bool mask of the rows (R,) or places (N, H, W) that count, None = all of them count.
            Empty = all of all tensors count.
        targets: returns what labels say of each tensor, as TapSpec.targets says. It is called if a loss asks.
        spatial: the tensors are (N, C, *spatial) in place of rows (R, C), of which there are N times the places; the
            Distiller makes rows of them for losses that do not take them so. There are no masks and no targets.
    """

    student: Sequence[Tensor]
    teacher: Sequence[Tensor]
    valid: Sequence[Tensor | None] = ()
    targets: Callable[[], Sequence[Tensor]] | None = None
    spatial: bool = False


# By name.
Taps = Mapping[str, Tap]


@dataclass(frozen=True)
class TapSpec:
    """What one side's tensors of a tap are, as far as it is known before any batch.

    Args:
        kind: of its tensors. "rows": class logits (R, C), a row for each RoI or anchor; "maps": (N, C, H, W);
            "samples": pooled features (R, C), whose relations can be compared; "boxes": a row for each RoI or anchor,
            x0, y0, x1, y1 in pixels of the student's image or as its regression targets, and of the teacher the logit
            of an object being there, (R, 4) and (R, 5); "proposals": the same with that logit on both sides, (R, 5);
            "crossed": (R, 4 + K), boxes in pixels and class logits, both behind the teacher's last layers; "masks":
            logits (R, 1, M, M) of the pixels of RoIs.
        channels: C of each tensor.
        activation: of class logits: "softmax" over the C classes, or "sigmoid" for each; None = no class logits.
        auxiliary_to: the tap of which this one is the same at an auxiliary head; losses on that one go to this one
            too, where both sides have it.
        factor: on the weights of losses that come here through auxiliary_to.
        targets: what labels say of it. "classes": for each row or place the column of its class, int64, (R,) or
            (N, H, W); "objects": for each place one over the number of places of the smallest object that has it, 0 in
            the background, (N, H, W); "anchors": for each image and each of its rows 1 where an object is, 0 where none
            is, int64, (N, R / N), rows lying image by image; all UNLABELED where labels say nothing. "" = nothing.
        places: where its places lie, for the plan, as "at stride 8, 64x128"; "" = nothing is said.
    """

    kind: Kind
    channels: tuple[int, ...]
    activation: Activation | None = None
    auxiliary_to: str = ""
    factor: float = 1.0
    targets: Targets = ""
    places: str = ""


# By name: what a model can give.
TapSpecs = Mapping[str, TapSpec]


def inside_of(features: Tensor, extents: Sequence[Extent]) -> Tensor | None:
    """Return a mask of the places of maps (N, C, H, W) that are no padding, bool (N, H, W); None without padding.

    Args:
        extents: of each image, from the top left corner.
    """
    if not has_padding(features, extents):
        return None
    inside = torch.zeros(len(features), *features.shape[2:], dtype=torch.bool, device=features.device)
    for of_image, (height, width) in zip(inside, extents, strict=True):  # a tensor of the extents would be copied there
        of_image[:height, :width] = True
    return inside


def has_padding(features: Tensor, extents: Sequence[Extent]) -> bool:
    """Return whether an image is smaller than the maps (N, C, H, W)."""
    return any(extent[axis] < length for extent in extents for axis, length in _sides(features))


def _sides(features: Tensor) -> list[tuple[int, int]]:
    return list(enumerate(features.shape[2:]))


def per_image(features: Tensor, extents: Sequence[Extent] = ()) -> Tensor:
    """Return the mean of maps (N, C, H, W) over each image without its padding (see inside_of): (N, C)."""
    if not has_padding(features, extents):
        return features.mean((2, 3))
    return torch.cat([x.mean((2, 3)) for x in _without_padding(features, extents)])


def per_cell(features: Tensor, extents: Sequence[Extent] = (), grid: int = 4) -> Tensor:
    """Return the means of maps (N, C, H, W) over cells of a grid on each image without its padding: (N·grid², C)."""
    parts = _without_padding(features, extents) if has_padding(features, extents) else [features]
    cells = torch.cat([F.adaptive_avg_pool2d(part, grid) for part in parts])
    return cells.flatten(2).transpose(1, 2).flatten(0, 1)


def _without_padding(features: Tensor, extents: Sequence[Extent]) -> list[Tensor]:
    """Return the maps of each image, (1, C, h, w)."""
    return [x[None, :, :height, :width] for x, (height, width) in zip(features, extents, strict=True)]


def per_class(features: Tensor, labels: Tensor) -> Tensor:
    """Return the mean of maps (N, C, H, W) over all pixels of each class in the batch: (classes present, C), in float32
    at least.

    Args:
        labels: trainIds (N, H, W) at the resolution of the features; 255 does not count.
    """
    # PyTorch's own means add up in float32; sums of float16 would overflow, and those of bfloat16 stop growing.
    pixels, labels = widen(features).movedim(1, -1).flatten(0, 2), labels.flatten()
    counts = labels != 255
    classes, index = labels[counts].unique(return_inverse=True)
    sums = pixels.new_zeros(len(classes), pixels.shape[1]).index_add(0, index, pixels[counts])
    return sums / torch.bincount(index, minlength=len(classes)).unsqueeze(1)


def subsample(samples: Tensor, most: int) -> Tensor:
    """Return at most that many of the samples (R, C), evenly spread: RKD's angles cost the cube of their number."""
    if len(samples) <= most:
        return samples
    return samples[torch.linspace(0, len(samples) - 1, most, device=samples.device).round().long()]
