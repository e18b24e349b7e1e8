"""Mosaic (Bochkovskiy et al., YOLOv4, 2020): four images without true labels in one.

Each goes through the augmentations of INPUT, is shrunk to fit one of the four parts of the picture, and lies against
the point where these meet. Detectron2's own transforms move boxes, masks and what is kept of a teacher.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetMapper
from detectron2.data.transforms import (
    Augmentation,
    AugmentationList,
    NoOpTransform,
    PadTransform,
    ResizeTransform,
    Transform,
    TransformList,
)
from detectron2.structures import Boxes, Instances

from densedist.common.data.headers import Size
from densedist.common.data.sides import MARK
from densedist.common.distill.views import is_true
from densedist.common.errors import UserError
from densedist.det.data.teacher_labels import IGNORED

KEY = "PSEUDO_LABELS.MOSAIC"
CENTER = (0.25, 0.75)  # where the parts meet, as shares of height and width


class Bounds(NoOpTransform):
    """Cuts boxes off at the edges of an image, and takes keypoints beyond them out of sight, as Detectron2 does at the
    edges of the whole picture alone. Crops cut off masks themselves.

    Args:
        size: height and width of the image.
    """

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size

    def apply_box(self, box: np.ndarray) -> np.ndarray:
        return np.asarray(box).clip(0, [*self.size[::-1]] * 2)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        inside = ((coords >= 0) & (coords <= self.size[::-1])).all(1, keepdims=True)
        return np.where(inside, coords, np.nan)  # which lies inside of no picture

    def apply_polygons(self, polygons: list[np.ndarray]) -> list[np.ndarray]:
        return polygons


class Place(Augmentation):
    """Shrinks an image to a part of a picture, and pads it to the picture.

    Args:
        number: of the part: 0 and 1 are above, 0 and 2 on the left.
        center: where the parts meet, y and x, as shares.
        picture: height and width of the picture; None = those of the image.

    Attributes:
        picture: known once an image was placed.
        box: rows and columns of the picture that show the image, once it was placed.
    """

    box: tuple[slice, slice]

    def __init__(self, number: int, center: Sequence[float], picture: tuple[int, int] | None) -> None:
        super().__init__()
        self.number, self.center, self.picture = number, center, picture

    def get_transform(self, image: np.ndarray) -> Transform:
        height, width = image.shape[:2]
        self.picture = self.picture or (height, width)
        rows, columns = self.picture
        y, x = (round(share * side) for share, side in zip(self.center, self.picture, strict=True))
        below, right = divmod(self.number, 2)
        room = rows - y if below else y, columns - x if right else x
        scale = min(room[0] / height, room[1] / width)
        h, w = (min(max(round(side * scale), 1), most) for side, most in zip((height, width), room, strict=True))
        top, left = y if below else y - h, x if right else x - w
        self.box = slice(top, top + h), slice(left, left + w)
        pad = PadTransform(left, top, columns - left - w, rows - top - h, orig_w=w, orig_h=h)
        return TransformList([Bounds((height, width)), ResizeTransform(height, width, h, w), pad])


class Mosaic:
    """A mapper that, so often, joins an image without true labels with three of the same source, drawn at random.

    Args:
        mapper: of training samples.
        pools: Detectron2's dataset dicts: those whose labels a teacher wrote, and those without labels.
        probability: of a mosaic.
        fill: the color of what no image covers, in the images' order.
    """

    def __init__(
        self, mapper: DatasetMapper, pools: tuple[Sequence[dict], Sequence[dict]], probability: float, fill: list[int]
    ) -> None:
        self.mapper, self.pools, self.probability = mapper, pools, probability
        self.fill = torch.tensor(fill, dtype=torch.uint8)[:, None, None]

    def __call__(self, entry: dict) -> dict:
        if is_true(entry, "annotations") or np.random.random() >= self.probability:
            return self.mapper(entry)
        pool = self.pools[0 if MARK in entry else 1]
        entries = [entry, *(pool[number] for number in np.random.randint(len(pool), size=3))]
        center, picture = np.random.uniform(*CENTER, size=2).tolist(), None
        samples, places = [], []
        for number, one in zip(np.random.permutation(4).tolist(), entries, strict=True):
            place = Place(number, center, picture)
            mapper = copy(self.mapper)
            mapper.augmentations = AugmentationList([self.mapper.augmentations, place])
            samples.append(mapper(one))
            places.append(place)
            picture = place.picture  # the first image's
        return _joined(samples, places, self.fill)


def mosaic(mapper: Callable[[dict], dict], cfg: CfgNode, dicts: Mapping[str, Sequence[dict]]) -> Callable[[dict], dict]:
    """Return the mapper with PSEUDO_LABELS.MOSAIC; itself where that is 0.

    Args:
        mapper: a DatasetMapper of training samples.
        dicts: Detectron2's dataset dicts by side of DATASETS.
    """
    if not cfg.PSEUDO_LABELS.MOSAIC:
        return mapper
    assert isinstance(mapper, DatasetMapper)
    pools = dicts["PSEUDO_LABELED"], dicts["UNLABELED"]
    return Mosaic(mapper, pools, cfg.PSEUDO_LABELS.MOSAIC, [round(value) for value in cfg.MODEL.PIXEL_MEAN])


def check_mosaic(cfg: CfgNode) -> None:
    """Refuse a cache of the teacher that cannot follow.

    Raises:
        UserError: naming the key.
    """
    node = cfg.DISTILL.TEACHER
    if not (cfg.PSEUDO_LABELS.MOSAIC and node.CACHE):
        return
    if node.CACHE_MAPS:
        raise UserError(f"{KEY} joins images, and DISTILL.TEACHER.CACHE_MAPS keeps maps of whole ones: set one to 0")
    if cfg.INPUT.FLIP_PAIRS:
        raise UserError(
            f"{KEY} joins images, some of which are mirrored, and DISTILL.TEACHER.CACHE swaps the classes of "
            f"INPUT.FLIP_PAIRS in whole ones: set {KEY} to 0, or leave CACHE empty"
        )


def _joined(samples: Sequence[dict], places: Sequence[Place], fill: torch.Tensor) -> dict:
    """Return the first sample with what all of them show, hold and know of a teacher."""
    result: dict[str, Any] = dict(samples[0])
    image = fill.expand_as(samples[0]["image"]).clone()
    for sample, place in zip(samples, places, strict=True):
        image[(..., *place.box)] = sample["image"][(..., *place.box)]
    result["image"] = image
    if "instances" in result:
        # Those of an image without objects have fewer fields.
        filled = [sample["instances"] for sample in samples if len(sample["instances"])]
        result["instances"] = Instances.cat(filled) if filled else result["instances"]
    if ignored := [sample[IGNORED] for sample in samples if IGNORED in sample]:
        result[IGNORED] = Boxes.cat(ignored)
    if "teacher" in result:
        boxes, logits, background = zip(*(sample["teacher"] for sample in samples), strict=True)
        result["teacher"] = torch.cat(boxes), torch.cat(logits), torch.stack(background).mean(0)
    return result
