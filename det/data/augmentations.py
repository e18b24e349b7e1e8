"""INPUT of detection as augmentations of Detectron2: its own, large-scale jitter, and those of albumentations."""

from collections.abc import Sequence

import numpy as np
from detectron2.config import CfgNode
from detectron2.data.transforms import (
    Augmentation,
    ColorTransform,
    FixedSizeCrop,
    ResizeScale,
    ResizeShortestEdge,
    Transform,
)

from densedist.common.data.augmentations import Augmentations, build_photometric

REMEDY = "leave it out, and take INPUT.RANDOM_FLIP, CROP or SCALE_JITTER, which boxes follow"
SIDES = "[least scale, greatest scale, height, width], scales above 0; or []"


class Photometric(Augmentation):
    """Augmentations that move no pixel.

    Args:
        augment: takes images in the order of INPUT.FORMAT.
    """

    def __init__(self, augment: Augmentations) -> None:
        super().__init__()
        self.augment = augment

    def get_transform(self, image: np.ndarray) -> Transform:
        seen = self.augment({"image": image})["image"]  # now, as random numbers are drawn here
        return ColorTransform(lambda _: seen)


def training_augmentations(cfg: CfgNode, stock: Sequence[Augmentation]) -> list[Augmentation]:
    """Return the augmentations of INPUT.

    Args:
        stock: those that Detectron2 makes of the config.
    """
    found = list(stock)
    if cfg.INPUT.SCALE_JITTER:
        least, greatest, height, width = cfg.INPUT.SCALE_JITTER
        # Without padding, which distillation would take for a part of the image; batches are padded anyway.
        jitter = [ResizeScale(least, greatest, height, width), FixedSizeCrop((height, width), pad=False)]
        found = [new for one in found for new in (jitter if isinstance(one, ResizeShortestEdge) else [one])]
    augment = build_input(cfg)
    return [*found, Photometric(augment)] if augment else found


def build_input(cfg: CfgNode) -> Augmentations | None:
    """Build what INPUT.COLOR_JITTER and ALBUMENTATIONS name; None without any.

    Raises:
        UserError: a transform that is unknown, moves pixels, or does not work on an image alone.
    """
    return build_photometric(cfg.INPUT, "INPUT", cfg.INPUT.FORMAT == "BGR", REMEDY)


def is_scale_jitter(value: Sequence[float]) -> bool:
    """Return whether it is [least scale, greatest scale, height, width], or empty."""
    if not value:
        return True
    numbers = len(value) == 4 and all(type(number) in (int, float) for number in value)
    return numbers and 0 < value[0] <= value[1] and all(type(side) is int and side > 0 for side in value[2:])
