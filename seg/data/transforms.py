"""Augmentation of training samples: scale, crop, what INPUT names beside these, pad, flip."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import lru_cache
from math import ceil
from typing import Any

import albumentations as A
import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from torch.nn import functional as F

from densedist.common.data.augmentations import Augmentations
from densedist.common.data.flip_pairs import mirrored_classes
from densedist.seg.data.augmentations import build_augmentations
from densedist.seg.labels import IGNORE, Classes

# In pixels: the step of the grid on which coordinates are kept. They are interpolated between its points, which is
# exact for all that scales, crops and mirrors.
GRID = 8
# image (H, W, 3) and label (H, W), see Reader.read, if there is one, in; both of another size out
Transform = Callable[[np.ndarray, np.ndarray | None], tuple[np.ndarray, np.ndarray | None]]


class _ScaledCrop(A.DualTransform):
    """A crop, everywhere as likely, of the image resized by one of the given factors, each as likely.

    Where the resized image is smaller than the crop, all of it.
    """

    def __init__(self, scales: Sequence[float], crop_size: Sequence[int]) -> None:
        super().__init__(p=1)
        self.scales = [Fraction(str(scale)) for scale in scales]  # 0.6 is three fifths
        self.crop_size = crop_size

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        scale = self.py_random.choice(self.scales)
        full = scaled_size(params["shape"][:2], scale)
        size = tuple(map(min, full, self.crop_size))
        corner = tuple(self.py_random.randint(0, whole - part) for whole, part in zip(full, size, strict=True))
        return {"scale": scale, "corner": corner, "size": size}

    def apply(self, img: np.ndarray, scale: Fraction, corner: Any, size: Any, **params: Any) -> np.ndarray:
        return scaled_crop(img, scale, corner, size, cv2.INTER_LINEAR)

    def apply_to_mask(self, mask: np.ndarray, scale: Fraction, corner: Any, size: Any, **params: Any) -> np.ndarray:
        # Coordinates are interpolated like an image: a pixel between two shows what lies between them.
        interpolation = cv2.INTER_LINEAR if mask.dtype == np.float32 else cv2.INTER_NEAREST
        return scaled_crop(mask, scale, corner, size, interpolation)


class _Mirror(A.HorizontalFlip):
    """The mirror image, in whose label classes are swapped as mirrored_classes says."""

    def __init__(self, mirrored_classes: Sequence[int] | None, p: float) -> None:
        super().__init__(p=p)
        self.table = None
        if mirrored_classes is not None:
            self.table = np.arange(256, dtype=np.uint8)
            self.table[: len(mirrored_classes)] = mirrored_classes

    def apply_to_mask(self, mask: np.ndarray, **params: Any) -> np.ndarray:
        mirrored = super().apply_to_mask(mask, **params)
        # The coordinates of pixels are a mask, too; in uint16 the upper 8 bits are scores.
        if self.table is None or mask.dtype == np.float32:
            return mirrored
        label = cv2.LUT((mirrored & 255).astype(np.uint8), self.table)
        return label if mask.dtype == np.uint8 else mirrored & 0xFF00 | label


class TrainingTransform:
    """Scale by one of `scales`, crop, augment, pad bottom and right, and mirror one half of the samples.

    Args:
        scales: factors above 0.
        crop_size: height and width of the result.
        flip: whether to mirror.
        padding: the color of padded pixels, in the image's channel order; their label is IGNORE.
        augment: what else is done; of the cropped image, so that it costs the same whatever size images have, and
            padding keeps its color.
        mirrored_classes: for each class what its mirror image shows; None = itself.
    """

    def __init__(
        self,
        scales: Sequence[float],
        crop_size: Sequence[int],
        flip: bool,
        padding: Sequence[float],
        augment: Augmentations | None = None,
        mirrored_classes: Sequence[int] | None = None,
    ) -> None:
        height, width = crop_size
        more = {"coordinates": "mask"}
        self._crop = A.Compose([_ScaledCrop(scales, crop_size)], additional_targets=more)
        self._augment = augment
        self.mirrored_classes = None if mirrored_classes is None else list(mirrored_classes)
        pad = A.PadIfNeeded(height, width, position="top_left", fill=tuple(padding), fill_mask=IGNORE)
        mirror = _Mirror(mirrored_classes, p=0.5 if flip else 0.0)
        self._finish = A.Compose([pad, mirror], additional_targets=more)

    def __call__(self, image: np.ndarray, label: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
        result = self._run(image, label)
        return result["image"], result.get("mask")

    def with_coordinates(
        self, image: np.ndarray, label: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray | None, torch.Tensor]:
        """Transform the same way, and return where the result's pixels come from in the given image.

        Whatever moves pixels moves their coordinates with them, which are a mask to albumentations.

        Returns:
            image, label, and coordinates (2, a, b), float32, on a grid of about GRID pixels from corner pixel to corner
            pixel of the result: x and y in pixels of the given image, 0 being the first one's center. NaN in padding.
        """
        result = self._run(image, label, coordinates=_coordinates(image.shape[:2]))
        full = torch.from_numpy(np.ascontiguousarray(result["coordinates"]).transpose(2, 0, 1))
        coarse = [-(-length // GRID) + 1 for length in full.shape[1:]]
        *coordinates, mark = F.interpolate(full[None], size=coarse, mode="bilinear", align_corners=True)[0]
        return result["image"], result.get("mask"), torch.stack(coordinates).where((mark - 1).abs() < 1e-3, torch.nan)

    def _run(self, image: np.ndarray, label: np.ndarray | None, **more: np.ndarray) -> dict[str, Any]:
        # Drawn from NumPy's global state, which the engine and the data loader's workers seed.
        seed = int(np.random.randint(2**31))
        data = {"image": image, **more} if label is None else {"image": image, "mask": label, **more}
        self._crop.set_random_seed(seed)
        data = self._crop(**data)
        if self._augment is not None:
            data = self._augment(data)
        self._finish.set_random_seed(seed)
        return self._finish(**data)


@lru_cache(8)  # most data sets have a size or two
def _coordinates(size: tuple[int, int]) -> np.ndarray:
    """Return x, y, and 1 for each pixel of an image, (H, W, 3); padding has another number than 1."""
    y, x = np.indices(size, dtype=np.float32)
    return np.stack([x, y, np.ones_like(x)], 2)


def training_transform(cfg: CfgNode) -> TrainingTransform:
    """Build the augmentation of INPUT.*.

    Padding has the student's mean color, which its normalization maps to 0 up to rounding.
    """
    node = cfg.INPUT
    padding = [round(value) for value in cfg.MODEL.PIXEL_MEAN]
    flip, augment = node.RANDOM_FLIP == "horizontal", build_augmentations(cfg)
    swapped = mirrored_classes(node.FLIP_PAIRS, Classes.of(cfg).names)
    return TrainingTransform(node.SCALES, node.CROP_SIZE, flip, padding, augment, swapped)


def scaled_size(size: tuple[int, int], scale: Fraction) -> tuple[int, int]:
    """Return height and width of an image of that size, resized."""
    height, width = (max(int(length * scale), 1) for length in size)
    return height, width


def scaled_crop(
    image: np.ndarray, scale: Fraction, corner: tuple[int, int], size: tuple[int, int], interpolation: int
) -> np.ndarray:
    """Crop cv2.resize(image, None, fx=scale, fy=scale) at corner (y, x) to a height and width, without resizing all.

    Args:
        image: (H, W) or (H, W, 3), uint8 or float32.
        scale: above 0; the fewer digits it has, the less is resized that is not in the crop.
        corner, size: within scaled_size of the image.
        interpolation: cv2.INTER_NEAREST or cv2.INTER_LINEAR.
    """
    (top, bottom, y), (left, right, x) = (
        _part(length, scale, start, count) for length, start, count in zip(image.shape[:2], corner, size, strict=True)
    )
    part = image[top:bottom, left:right]
    if scale != 1:
        part = cv2.resize(part, None, fx=float(scale), fy=float(scale), interpolation=interpolation)
    return part[y : y + size[0], x : x + size[1]]


def _part(length: int, scale: Fraction, start: int, count: int) -> tuple[int, int, int]:
    """Return the pixels (first, end) that show start to start + count when resized, and where in the result."""
    # An edge of a pixel falls on one of the result's at every denominator-th pixel only. Cut there, the rest is
    # resized as within the whole. The new border, repeated outwards where interpolation asks for what is beyond, must
    # show no farther than half a pixel.
    margin = ceil(scale / 2)
    first = max(start - margin, 0) // scale.numerator * scale.denominator
    end = min(ceil((start + count) / scale) + 1, length)
    return first, end, start - int(first * scale)
