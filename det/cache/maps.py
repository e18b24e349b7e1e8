"""The maps of a teacher's backbone for whole training images at one size, and for their mirror images, kept on disk.

Its heads run in training as they do live, so two-stage and one-stage teachers give all their taps. The price is room: a
map of 256 channels at stride 4 takes 32 bytes a pixel of the image, and as many again for the mirror image.
"""

from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data.transforms import HFlipTransform, ResizeShortestEdge, TransformList
from torch import Tensor

from densedist.common.cache.arrays import About
from densedist.common.data.headers import read_header
from densedist.common.errors import UserError
from densedist.det.cache.mapper import CachedMapper
from densedist.det.cache.settings import settings
from densedist.det.data.reading import read_input

FLIPPED = "_flipped"  # of a name: the map of the mirror image


class MapsMapper(CachedMapper):
    """Samples with "teacher": the backbone's maps (C, h, w) of the image as the student sees it, float16, by name."""

    def look_up(
        self, kept: dict[str, Tensor], dataset_dict: dict, transforms: TransformList, image_shape: tuple[int, int]
    ) -> dict[str, Tensor]:
        flipped = any(isinstance(transform, HFlipTransform) for transform in transforms.transforms)
        names = [name for name in kept if not name.endswith(FLIPPED)]
        return {name: kept[name + FLIPPED * flipped] for name in names}


class MapsToKeep:
    """Computes the maps that a teacher's backbone gives for an image at the size of training, and for its mirror image.

    Args:
        cfg: the student's.
        teacher: whose maps these are.
    """

    def __init__(self, cfg: CfgNode, teacher: Any) -> None:
        check_same_size(cfg)
        self.cfg, self.teacher, self.flips = cfg, teacher, cfg.INPUT.RANDOM_FLIP == "horizontal"
        self.known: dict[tuple[int, int], About] = {}

    @property
    def depends_on(self) -> dict[str, object]:
        """Return by name what decides, apart from the model, what is kept."""
        size = tuple(self.cfg.INPUT.MIN_SIZE_TRAIN), self.cfg.INPUT.MAX_SIZE_TRAIN
        backbone = settings(self.teacher.model.backbone)
        return {"INPUT.MIN_SIZE_TRAIN, MAX_SIZE_TRAIN": size, "INPUT.RANDOM_FLIP": self.flips, **backbone}

    def about(self, image: str) -> About:
        """Return the shapes of the maps, which images of one size share."""
        height, width = read_header(image).size
        side, most = self.cfg.INPUT.MIN_SIZE_TRAIN[0], self.cfg.INPUT.MAX_SIZE_TRAIN
        size = ResizeShortestEdge.get_output_shape(height, width, side, most)
        if size not in self.known:
            maps = self.teacher.live_maps([torch.zeros(3, *size)])
            shapes = {name: list(x.shape[1:]) for name, x in maps.items()}
            flipped = {name + FLIPPED: shape for name, shape in shapes.items()} if self.flips else {}
            self.known[size] = {"shapes": {**shapes, **flipped}}
        return self.known[size]

    def __call__(self, image: str) -> dict[str, Tensor]:
        sample, _ = read_input(self.cfg, image, (self.cfg.INPUT.MIN_SIZE_TRAIN[0], self.cfg.INPUT.MAX_SIZE_TRAIN))
        seen = sample["image"]
        result = {name: x[0] for name, x in self.teacher.live_maps([seen]).items()}
        if self.flips:
            result |= {name + FLIPPED: x[0] for name, x in self.teacher.live_maps([seen.flip(2)]).items()}
        return result


def check_same_size(cfg: CfgNode) -> None:
    """Make sure that training sees each image at one size, whole, and mirrored at the most.

    Raises:
        UserError: naming the key that says otherwise.
    """
    node, why = cfg.INPUT, "DISTILL.TEACHER.CACHE_MAPS keeps maps of whole images at one size"
    if len(set(node.MIN_SIZE_TRAIN)) != 1:
        raise UserError(f"{why}, but INPUT.MIN_SIZE_TRAIN is {tuple(node.MIN_SIZE_TRAIN)}: want one size")
    if node.CROP.ENABLED:
        raise UserError(f"{why}: set INPUT.CROP.ENABLED to False")
    if node.SCALE_JITTER:
        raise UserError(f"{why}: leave INPUT.SCALE_JITTER empty")
    if node.RANDOM_FLIP not in ("none", "horizontal"):
        raise UserError(f"{why}: INPUT.RANDOM_FLIP is {node.RANDOM_FLIP}: want none or horizontal")
