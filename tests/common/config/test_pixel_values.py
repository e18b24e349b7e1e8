"""MODEL.PIXEL_MEAN and PIXEL_STD are for pixels of 0 to 255, in both tasks."""

import pytest

from densedist.common.config import load
from densedist.common.errors import UserError
from densedist.det.config import GRAMMAR as DET
from densedist.seg.config import GRAMMAR as SEG

TASKS = pytest.mark.parametrize("grammar", [DET, SEG], ids=["det", "seg"])
MEAN = "want the mean of pixels of 0 to 255: multiply by 255 what is for pixels of 0 to 1"
STD = "want deviations of 1 or more, of pixels of 0 to 255: multiply by 255 what is for pixels of 0 to 1"


def read(grammar, mean, std):
    return load(grammar, "", ["MODEL.PIXEL_MEAN", str(mean), "MODEL.PIXEL_STD", str(std)]).MODEL


@TASKS
@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]),
        ([103.53, 116.28, 123.675], [1.0, 1.0, 1.0]),  # Caffe's models
        ([0.0, 0.0, 0.0], [255.0, 255.0, 255.0]),  # pixels of 0 to 1
        ([0, 0, 0], [1, 1, 1]),
        ([0.5, 0.0, 90.0], [1.0, 2.0, 3.0]),
    ],
)
def test_values_for_pixels_of_0_to_255(grammar, mean, std):
    model = read(grammar, mean, std)
    assert (list(model.PIXEL_MEAN), list(model.PIXEL_STD)) == (mean, std)


@TASKS
@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225], f"MODEL.PIXEL_MEAN is [0.485, 0.456, 0.406]: {MEAN}"),
        ([-1.0, 0.5, 0.0], [57.0, 57.0, 57.0], f"MODEL.PIXEL_MEAN is [-1.0, 0.5, 0.0]: {MEAN}"),
        ([123.0, 116.0, 103.0], [57.0, 0.225, 57.0], f"MODEL.PIXEL_STD is [57.0, 0.225, 57.0]: {STD}"),
        ([123.0, 116.0, 103.0], [57.0, 0.0, 57.0], f"MODEL.PIXEL_STD is [57.0, 0.0, 57.0]: {STD}"),
        ([0.0, 0.0, 0.0], [-57.0, 57.0, 57.0], f"MODEL.PIXEL_STD is [-57.0, 57.0, 57.0]: {STD}"),
        (["a", 1.0, 1.0], [57.0, 57.0, 57.0], "MODEL.PIXEL_MEAN is ['a', 1.0, 1.0]: want a number for each channel"),
        ([1.5, 2.0, 3.0], [None, 1.0, 1.0], "MODEL.PIXEL_STD is [None, 1.0, 1.0]: want a number for each channel"),
    ],
)
def test_values_for_other_pixels(grammar, mean, std, message):
    with pytest.raises(UserError) as error:
        read(grammar, mean, std)
    assert str(error.value) == message
