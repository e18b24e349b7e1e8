"""From a dataset dict to a training sample."""

from copy import copy
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetMapper
from detectron2.data.detection_utils import SizeMismatchError
from detectron2.data.transforms import HFlipTransform

from densedist.common.errors import UserError
from densedist.det.datasets import class_mirrors


class Mapper(DatasetMapper):
    """Detectron2's, with an image that cannot be read said in one line, and classes swapped in mirror images.

    A sample whose classes are swapped, as INPUT.FLIP_PAIRS says, has "class_order": for each class the number of
    what its mirror image shows.

    Args:
        cfg: the student's, whose data sets are registered where it has INPUT.FLIP_PAIRS.
        is_train: as DatasetMapper.
    """

    def __init__(self, cfg: CfgNode, is_train: bool = True) -> None:
        super().__init__(cfg, is_train)
        self.mirrored_classes = class_mirrors(cfg)

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
        """Classes are swapped in a mirror image.

        In a crop boxes are made anew of their masks, which an image without objects does not have.
        """
        flips = sum(isinstance(one, HFlipTransform) for one in transforms.transforms)
        if self.mirrored_classes is not None and flips % 2:
            for annotation in dataset_dict["annotations"]:
                annotation["category_id"] = self.mirrored_classes[annotation["category_id"]]
            dataset_dict["class_order"] = self.mirrored_classes
        has_objects = any(not annotation.get("iscrowd") for annotation in dataset_dict["annotations"])
        mapper = self if has_objects else copy(self)
        mapper.recompute_boxes &= has_objects
        super(Mapper, mapper)._transform_annotations(dataset_dict, transforms, image_shape)
