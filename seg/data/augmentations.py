"""INPUT.COLOR_JITTER and INPUT.ALBUMENTATIONS of segmentation: colors, and geometry that moves the label along."""

import inspect
from collections.abc import Mapping
from typing import Any

import albumentations as A
import numpy as np
from detectron2.config import CfgNode

from densedist.common.data import augmentations
from densedist.common.data.augmentations import Augmentations, keeps_pixels, trial
from densedist.common.distill.registry import is_on
from densedist.common.errors import UserError
from densedist.seg.labels import IGNORE

KEY = "INPUT.ALBUMENTATIONS"
# What moves pixels along straight lines, so that coordinates of pixels can be interpolated on a coarse grid.
STRAIGHT = (
    *(A.Affine, A.D4, A.HorizontalFlip, A.Perspective, A.RandomRotate90, A.Rotate, A.SafeRotate, A.ShiftScaleRotate),
    *(A.SquareSymmetry, A.Transpose, A.VerticalFlip),
)
MIRRORS = (A.D4, A.HorizontalFlip, A.SquareSymmetry, A.Transpose, A.VerticalFlip)


def check_augmentations(cfg: CfgNode) -> None:
    """Try each transform of the config.

    Raises:
        UserError: see build_augmentations; a transform that does not work on an image and its label alone or changes
            the size, or one that DISTILL.TEACHER.CACHE cannot follow.
    """
    found = build_augmentations(cfg)
    leaves = found.leaves if found else []
    if cfg.INPUT.FLIP_PAIRS and (mirrored := [leaf for leaf in leaves if isinstance(leaf, MIRRORS)]):
        name = type(mirrored[0]).__name__
        raise UserError(
            f"{KEY}: {name} mirrors images and swaps no classes, but INPUT.FLIP_PAIRS names some: leave it out, and "
            "set INPUT.RANDOM_FLIP to horizontal"
        )
    for leaf in leaves:
        _check(leaf, cfg)


def mirrors(cfg: CfgNode) -> bool:
    """Return whether a transform of INPUT.ALBUMENTATIONS may show an image mirrored."""
    found = build_augmentations(cfg)
    return found is not None and any(isinstance(leaf, MIRRORS) for leaf in found.leaves)


def build_augmentations(cfg: CfgNode) -> Augmentations | None:
    """Build the augmentations of a config, for what a crop shows, before it is padded; None if it has none.

    Geometry moves the label, by nearest neighbor, and coordinates of pixels with the image; where nothing is left to
    show, the image has the color of padding and the label IGNORE.

    Raises:
        UserError: an unknown transform or argument, or a value that albumentations refuses.
    """
    bgr, color = cfg.INPUT.FORMAT == "BGR", [round(value) for value in cfg.MODEL.PIXEL_MEAN]
    fill = tuple(color[::-1] if bgr else color)

    def defaults(found: type[A.BasicTransform]) -> Mapping[str, Any]:
        # Of geometry; what hides a part of an image, and says no number there, leaves the label as it is.
        if getattr(inspect.signature(found).parameters.get("fill_mask"), "default", None) is None:
            return {}
        # A hole of MaskDropout has one number for all channels.
        return {"fill_mask": IGNORE} | ({} if found is A.MaskDropout else {"fill": fill})

    return augmentations.build_augmentations(cfg.INPUT, "INPUT", bgr, defaults, masks=["coordinates"])


def _check(leaf: A.BasicTransform, cfg: CfgNode) -> None:
    """Try a transform on a crop that is smaller than it may be, and see what it makes of it."""
    (height, width), classes = cfg.INPUT.CROP_SIZE, len(cfg.DATASETS.CLASSES)
    key = f"{KEY}: {type(leaf).__name__}"
    size = -(-height * 7 // 8), -(-width * 3 // 4)
    # Where the crop is a square, what is turned by 90° fits in it, too.
    sizes = {size, size[::-1]} if height == width else {size}
    rng = np.random.default_rng(0)
    data = {"image": rng.integers(0, 256, (*size, 3), np.uint8)}
    if not cfg.DATASETS.UNLABELED:  # whose images have no label
        data["mask"] = rng.integers(0, classes, size, np.uint8)
    for result in trial(leaf, data, key, "an image and its label" if "mask" in data else "an image without a label"):
        if result["image"].shape[:2] not in sizes:
            raise UserError(f"{key} changes the size of images: use INPUT.SCALES and CROP_SIZE for that")
        if "mask" in result and not ((result["mask"] < classes) | (result["mask"] == IGNORE)).all():
            raise UserError(f"{key} gives labels beyond the {classes} classes: set its fill_mask to {IGNORE}")
    if cfg.DISTILL.TEACHER.CACHE and is_on(cfg.DISTILL) and not (keeps_pixels(leaf) or isinstance(leaf, STRAIGHT)):
        followed = ", ".join(one.__name__ for one in STRAIGHT)
        raise UserError(
            f"{key} moves pixels in a way that DISTILL.TEACHER.CACHE does not follow: leave out one of them, "
            f"or use one of {followed}"
        )
