"""From a dataset dict to a training sample."""

from copy import copy
from typing import Any

from detectron2.data import DatasetMapper
from detectron2.data.detection_utils import SizeMismatchError

from densedist.common.errors import UserError


class Mapper(DatasetMapper):
    """Detectron2's, with an image that cannot be read said in one line."""

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
        """In a crop boxes are made anew of their masks, which an image without objects does not have."""
        has_objects = any(not annotation.get("iscrowd") for annotation in dataset_dict["annotations"])
        mapper = self if has_objects else copy(self)
        mapper.recompute_boxes &= has_objects
        super(Mapper, mapper)._transform_annotations(dataset_dict, transforms, image_shape)
