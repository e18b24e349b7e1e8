"""From a dataset dict to a training sample: crops, masks and images without objects."""

import numpy as np
import pytest
from detectron2.structures import BoxMode
from PIL import Image

from densedist.det.data.reading import Mapper
from helpers.tiny import TEACHER, config

CROPPED = ["INPUT.CROP.ENABLED", "True", "INPUT.CROP.SIZE", "[0.5, 0.5]", "INPUT.MIN_SIZE_TRAIN", "(48,)"]
TRIANGLE = {
    "bbox": [0, 0, 64, 48],
    "bbox_mode": BoxMode.XYWH_ABS,
    "category_id": 1,
    "segmentation": [[0, 0, 64, 0, 64, 48]],
}


@pytest.mark.parametrize("form", ["polygon", "bitmask"])
@pytest.mark.parametrize("annotations", [[], [TRIANGLE | {"iscrowd": 1}], [TRIANGLE]])
def test_crops_with_masks_of_images_without_objects(tmp_path, form, annotations):
    """Boxes are made anew of the masks, where there are any."""
    file = tmp_path / "a.png"
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(file)
    mapper = Mapper(config(TEACHER, *CROPPED, "INPUT.MASK_FORMAT", form), is_train=True)
    d = {"file_name": str(file), "height": 48, "width": 64, "annotations": annotations}
    np.random.seed(0)
    for _ in range(4):
        found = mapper(d)["instances"]
        assert len(found) <= sum(not a.get("iscrowd") for a in annotations)
        if len(found):
            assert (found.gt_boxes.tensor == found.gt_masks.get_bounding_boxes().tensor).all()
    assert mapper.recompute_boxes


def test_boxes_and_polygons_of_whole_numbers_move_as_exactly_as_others(tmp_path):
    """Detectron2 resizes whole numbers to whole ones, cut off."""
    file = tmp_path / "a.png"
    Image.fromarray(np.zeros((10, 10, 3), np.uint8)).save(file)
    mapper = Mapper(
        config(TEACHER, "INPUT.MIN_SIZE_TRAIN", "(11,)", "INPUT.RANDOM_FLIP", "none", "INPUT.MASK_FORMAT", "polygon")
    )
    whole = {"bbox": [3, 4, 5, 3], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 1}
    whole["segmentation"] = [[3, 4, 8, 4, 8, 7]]
    found = mapper({"file_name": str(file), "height": 10, "width": 10, "annotations": [whole]})["instances"]
    assert np.allclose(found.gt_boxes.tensor.numpy(), [[3.3, 4.4, 8.8, 7.7]])
    assert np.allclose(found.gt_masks.polygons[0][0], [3.3, 4.4, 8.8, 4.4, 8.8, 7.7])
    assert whole["bbox"] == [3, 4, 5, 3]
