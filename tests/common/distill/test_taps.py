"""Samples from feature maps, by hand."""

import pytest
import torch

from densedist.common.distill.taps import per_cell, per_class, per_image, subsample


def test_means_of_images_and_cells():
    features = torch.arange(2 * 3 * 8 * 8.0).view(2, 3, 8, 8)
    assert torch.equal(per_image(features)[1, 2], features[1, 2].mean())
    cells = per_cell(features)
    assert cells.shape == (32, 3)
    assert torch.allclose(cells[16 + 4 * 1 + 2], features[1, :, 2:4, 4:6].mean((1, 2)))


def test_means_of_the_classes_present_over_the_batch():
    features = torch.randn(2, 3, 2, 2)
    labels = torch.tensor([[[0, 0], [7, 255]], [[7, 7], [255, 255]]])
    result = per_class(features, labels)
    assert result.shape == (2, 3)
    assert torch.allclose(result[0], (features[0, :, 0, 0] + features[0, :, 0, 1]) / 2)
    sevens = features[0, :, 1, 0] + features[1, :, 0, 0] + features[1, :, 0, 1]
    assert torch.allclose(result[1], sevens / 3)


def test_no_label_no_sample():
    assert per_class(torch.randn(1, 3, 2, 2), torch.full((1, 2, 2), 255)).shape == (0, 3)


def test_thinning_keeps_few_as_they_are_and_spreads_the_rest():
    samples = torch.arange(100.0).view(100, 1)
    assert subsample(samples[:64], 64).shape == (64, 1)
    assert subsample(samples, 4).flatten().tolist() == [0, 33, 66, 99]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_means_in_half_precision_neither_overflow_nor_lose_pixels(dtype):
    """Sums of a float16 teacher's features go beyond 65504, and bfloat16's stop growing at 256 ones."""
    features = torch.full((1, 2, 96, 160), 10.0, dtype=dtype)
    labels = torch.zeros(1, 96, 160, dtype=torch.long)
    for means in (per_image(features), per_cell(features), per_class(features, labels)):
        assert torch.equal(means, torch.full_like(means, 10.0))
    assert per_class(features, labels).dtype == torch.float32
