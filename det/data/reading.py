"""From a dataset dict, or any image file, to a sample of Detectron2."""

from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetMapper
from detectron2.data.detection_utils import SizeMismatchError, read_image
from detectron2.data.transforms import HFlipTransform, ResizeShortestEdge

from densedist.common.data.sides import MARK
from densedist.common.errors import UserError
from densedist.det.data import teacher_labels
from densedist.det.data.augmentations import training_augmentations
from densedist.det.data.classes import class_mirrors


class Mapper(DatasetMapper):
    """Detectron2's, which refuses an image that cannot be read in one line and swaps classes in mirror images.

    A sample whose classes are swapped, as INPUT.FLIP_PAIRS says, has "class_order": for each class the number of
    what its mirror image shows. For labels that a teacher wrote see det/data/teacher_labels.py.

    Args:
        cfg: the student's, whose data sets are registered where it has INPUT.FLIP_PAIRS.
        is_train: as DatasetMapper.
    """

    def __init__(self, cfg: CfgNode, is_train: bool = True) -> None:
        super().__init__(cfg, is_train)
        self.mirrored_classes = class_mirrors(cfg)
        self.fields = teacher_labels.fields(cfg)

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        found = super().from_config(cfg, is_train)
        if is_train:
            found["augmentations"] = training_augmentations(cfg, found["augmentations"])
            # As Detectron2 does for its own crops.
            found["recompute_boxes"] |= bool(cfg.INPUT.SCALE_JITTER) and cfg.MODEL.MASK_ON
        return found

    def __call__(self, dataset_dict: dict) -> dict:
        """
        Raises:
            UserError: naming the image.
        """
        try:
            return super().__call__(dataset_dict)
        except (OSError, SyntaxError, SizeMismatchError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{dataset_dict['file_name']} cannot be read as its data set says: {reason}") from error

    def _transform_annotations(self, dataset_dict: dict, transforms: Any, image_shape: tuple[int, int]) -> None:
        """Move boxes and polygons of whole numbers as exactly as others, and swap classes in a mirror image.

        In a crop boxes are computed from their masks, which an image without objects does not have. Detectron2 has no
        public place between the transforms and the annotations.
        """
        for annotation in dataset_dict["annotations"]:
            _with_fractions(annotation)
        flips = sum(isinstance(one, HFlipTransform) for one in transforms.transforms)
        if self.mirrored_classes is not None and flips % 2:
            for annotation in dataset_dict["annotations"]:
                annotation["category_id"] = self.mirrored_classes[annotation["category_id"]]
            dataset_dict["class_order"] = self.mirrored_classes
        has_objects = any(not annotation.get("iscrowd") for annotation in dataset_dict["annotations"])
        mapper = self if has_objects else copy(self)
        mapper.recompute_boxes &= has_objects
        to_instances = partial(super(Mapper, mapper)._transform_annotations, dataset_dict, transforms, image_shape)
        if MARK in dataset_dict:
            teacher_labels.transform(dataset_dict, transforms, image_shape, self.fields, to_instances)
        else:
            to_instances()


def _with_fractions(annotation: dict) -> None:
    """Let coordinates be floats: those of whole numbers Detectron2 would cut off to whole ones as it resizes."""
    annotation["bbox"] = [float(x) for x in annotation["bbox"]]
    if isinstance(polygons := annotation.get("segmentation"), list):
        annotation["segmentation"] = [np.asarray(polygon, np.float64) for polygon in polygons]


def read_input(
    cfg: CfgNode, file: str | Path, sides: tuple[int, int] | None = None
) -> tuple[dict[str, Any], np.ndarray]:
    """Read an image file as a Detectron2 sample {"image", "height", "width"}, and in RGB (H, W, 3) at its own size.

    Args:
        sides: length of the sample's shorter side, and the most that its longer one may have, in pixels; None =
            INPUT.MIN_SIZE_TEST and MAX_SIZE_TEST.

    Raises:
        UserError: the image cannot be read.
    """
    try:
        rgb = read_image(str(file), "RGB")
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(f"{file} cannot be read as an image: {str(error).splitlines()[0]}") from error
    return as_input(cfg, rgb, sides), rgb


def as_input(cfg: CfgNode, rgb: np.ndarray, sides: tuple[int, int] | None = None) -> dict[str, Any]:
    """Return an RGB image (H, W, 3) as a Detectron2 sample {"image", "height", "width"}; for sides see read_input."""
    size, most = sides or (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
    image = rgb if cfg.INPUT.FORMAT == "RGB" else rgb[..., ::-1]
    image = ResizeShortestEdge([size, size], most).get_transform(image).apply_image(image)
    tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    return {"image": tensor, "height": rgb.shape[0], "width": rgb.shape[1]}
