"""Training samples with what the teacher's cache holds for their image."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode
from detectron2.data.transforms import TransformList
from torch import Tensor

from densedist.common.cache.arrays import Arrays
from densedist.det.data.reading import Mapper


class CachedMapper(Mapper):
    """The mapper with "teacher" in each sample, as look_up gives it.

    Args:
        cfg: the student's.
        kept: by the image's file, its place in the cache.
    """

    def __init__(self, cfg: CfgNode, kept: Mapping[str, tuple[Arrays, int]]) -> None:
        super().__init__(cfg, is_train=True)
        self.kept = kept

    def __call__(self, dataset_dict: dict) -> dict:
        # Without annotations nothing would be moved.
        return super().__call__({"annotations": None, **dataset_dict})

    def _transform_annotations(self, dataset_dict: dict, transforms: Any, image_shape: tuple[int, int]) -> None:
        """Add what is kept of the teacher. Detectron2 has no public place after the transforms are drawn."""
        if dataset_dict["annotations"] is None:
            del dataset_dict["annotations"]
        else:
            super()._transform_annotations(dataset_dict, transforms, image_shape)
        arrays, number = self.kept[dataset_dict["file_name"]]
        dataset_dict["teacher"] = self.look_up(arrays.read(number), dataset_dict, transforms, image_shape)

    @abstractmethod
    def look_up(
        self, kept: dict[str, Tensor], dataset_dict: dict, transforms: TransformList, image_shape: tuple[int, int]
    ) -> Any:
        """Return what is kept, as the student sees the image.

        Args:
            kept: float16 tensors by name.
            dataset_dict: of the image as it lies there.
            transforms: what the image went through.
            image_shape: its height and width now.
        """
