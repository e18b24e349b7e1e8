"""Class logits in 8 bits: what a softmax makes of them stays what it was, and where it would not they are refused."""

import numpy as np
import pytest
import torch

from densedist.common.cache.arrays import Arrays
from densedist.common.cache.eight_bits import MOVED, moved, pack, size_in_bytes, unpack
from densedist.common.cache.filling import fill
from densedist.common.errors import UserError


def logits(scale, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)) * scale


@pytest.mark.parametrize("scale", [0.0, 0.01, 1.0, 8.0, 100.0])
def test_each_distance_is_within_half_a_step(scale):
    given = logits(scale, 19, 33, 17)
    packed = pack(given)
    assert packed.dtype == np.uint8
    assert len(packed) == size_in_bytes(given.shape) == 4 + given.numel()
    kept = -unpack(packed, given.shape).numpy().astype(np.float64)
    true = (given.amax(0) - given).numpy().astype(np.float64)
    # Steps are even in log(1 + 4 d), 255 of them up to the largest distance; 2^-11 is float16's.
    half_a_step = np.log1p(4 * true.max()) / 255 / 2
    wrong = np.abs(np.log1p(4 * kept) - np.log1p(4 * true))
    assert wrong.max() <= half_a_step * 1.001 + 2**-11
    assert (kept.min(0) == 0).all()
    assert (kept[true == 0] == 0).all()


@pytest.mark.parametrize("tau", [1, 4])
@pytest.mark.parametrize("scale", [1.0, 8.0, 30.0])
def test_probabilities_stay_what_they_were(scale, tau):
    given = logits(scale, 19, 33, 17)
    kept = unpack(pack(given), given.shape).double()
    difference = ((given.double() / tau).softmax(0) - (kept / tau).softmax(0)).abs()
    assert difference.max() < MOVED
    if tau == 1:
        assert moved(given, pack(given)) == pytest.approx(difference.max().item(), abs=1e-6)


def test_the_widest_logits_of_float16_stay_finite():
    # An infinite one would be NaN between pixels, where it is interpolated with a weight of 0.
    given = torch.tensor([[6e4], [-6e4], [5.9e4]])
    kept = unpack(pack(given), given.shape)
    assert kept.isfinite().all()
    assert kept.flatten().argsort(descending=True).tolist() == [0, 2, 1]


def test_a_level_of_all_classes_does_not_matter():
    given = logits(5.0, 7, 9, 11)
    level = logits(20.0, 1, 9, 11)
    torch.testing.assert_close(unpack(pack(given + level), given.shape), unpack(pack(given), given.shape))


def keep(folder, given):
    image = folder / "image"
    image.write_text("")
    about = {"shapes": {"other": [3], "cls_logits": list(given.shape)}, "eight_bits": ["cls_logits"]}
    arrays = {"other": torch.tensor([1.0, -2.5, 3.0]), "cls_logits": given}
    fill(folder / "kept", [str(image)], "", lambda _: about, lambda _: arrays)
    return Arrays(folder / "kept").read(0)


def test_a_file_has_both_kinds(tmp_path):
    given = logits(5.0, 7, 3, 3)
    read = keep(tmp_path, given)
    assert read["other"].tolist() == [1.0, -2.5, 3.0]
    assert torch.equal(read["cls_logits"], unpack(pack(given), given.shape))


@pytest.mark.parametrize("odd", [(2, 3, 3), (3, 3, 3)])
def test_what_follows_an_odd_number_of_bytes_is_read_as_well(tmp_path, odd):
    (tmp_path / "image").write_text("")
    about = {"shapes": {"cls_logits": list(odd), "other": [2]}, "eight_bits": ["cls_logits"]}
    arrays = {"cls_logits": logits(1.0, *odd), "other": torch.tensor([0.5, 7.0])}
    fill(tmp_path / "kept", [str(tmp_path / "image")], "", lambda _: about, lambda _: arrays)
    assert Arrays(tmp_path / "kept").read(0)["other"].tolist() == [0.5, 7.0]


def test_logits_that_eight_bits_do_not_hold_are_refused(tmp_path):
    given = torch.zeros(3, 100)
    given[1] = -torch.linspace(0, 4, 100)
    given[2] = -3e4
    assert moved(given, pack(given)) < MOVED  # one class so far below is nothing yet
    many = given[:2].repeat_interleave(torch.tensor([1, 40]), 0)  # an error that forty classes have in common
    many = torch.cat([many, given[2:]])
    with pytest.raises(UserError, match=r"CACHE_BITS: in 8 bits a class probability in cls_logits of .*image moves by"):
        keep(tmp_path, many)


def test_logits_that_are_not_finite_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"cls_logits of .*image is not finite in float16: train without it"):
        keep(tmp_path, torch.full((2, 2), torch.nan))
