"""A crop that is resized alone is the one of the whole image resized."""

from fractions import Fraction

import cv2
import numpy as np
import pytest

from densedist.seg.data.transforms import TrainingTransform, scaled_crop, scaled_size
from helpers.scenes import CONFIGS, config

CITYSCAPES = config(CONFIGS / "cityscapes" / "base.yaml").INPUT.SCALES
RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (203, 331, 3), dtype=np.uint8)
LABEL = RNG.integers(0, 34, IMAGE.shape[:2], dtype=np.uint8)


@pytest.mark.parametrize("scale", [*CITYSCAPES, 0.25, 0.537, 1.75, 3.7])
def test_crop_first_is_resize_first(scale):
    scale = Fraction(str(scale))
    factors = {"fx": float(scale), "fy": float(scale)}
    image = cv2.resize(IMAGE, None, **factors, interpolation=cv2.INTER_LINEAR).astype(int)
    label = cv2.resize(LABEL, None, **factors, interpolation=cv2.INTER_NEAREST)
    full = scaled_size(LABEL.shape, scale)
    assert all(0 <= seen - wanted <= 1 for seen, wanted in zip(label.shape, full, strict=True))
    size = (min(64, full[0]), min(96, full[1]))
    corners = [[0, 0], [f - s for f, s in zip(full, size, strict=True)]]
    corners += [[int(RNG.integers(f - s + 1)) for f, s in zip(full, size, strict=True)] for _ in range(30)]
    for y, x in corners:
        there = np.s_[y : y + size[0], x : x + size[1]]
        seen = scaled_crop(IMAGE, scale, (y, x), size, cv2.INTER_LINEAR)
        assert seen.shape == (*size, 3)
        assert abs(image[there] - seen).max() <= 1  # where rounding has it
        differs = label[there] != scaled_crop(LABEL, scale, (y, x), size, cv2.INTER_NEAREST)
        # Exactly between two pixels OpenCV's rounding takes one or the other, and with 1.3 now and then the other.
        between = [(c + np.arange(n)) % scale.numerator == 0 for c, n in zip((y, x), size, strict=True)]
        assert not differs[np.ix_(~between[0], ~between[1])].any()
        assert scale == Fraction("1.3") or not differs.any()


def test_crops_are_everywhere_as_likely():
    """Of a picture 8 times as wide as the crop whose pixels say where they are."""
    place = np.tile(np.arange(80, dtype=np.uint8), (10, 1))
    transform = TrainingTransform([1.0], (10, 10), False, (0, 0, 0))
    np.random.seed(0)
    starts = [int(transform(np.dstack([place] * 3), place)[1][0, 0]) for _ in range(710)]
    assert min(starts) <= 1
    assert max(starts) >= 69
    assert np.mean(starts) == pytest.approx(35, abs=2.5)
    assert np.std(starts) == pytest.approx(71 / 12**0.5, rel=0.1)
