"""The mean of several teachers' probabilities, as logits."""

import pytest
import torch

from densedist.common.distill.ensemble import mean_logits


def logits(count=3, scale=3.0, shape=(20, 5)):
    generator = torch.Generator().manual_seed(0)
    return [scale * torch.randn(*shape, generator=generator) for _ in range(count)]


@pytest.mark.parametrize("shape", [(20, 5), (2, 5, 3, 4)])
def test_softmax(shape):
    each = logits(shape=shape)
    wanted = sum(x.double().softmax(1) for x in each) / 3
    torch.testing.assert_close(mean_logits(each, "softmax").double().softmax(1), wanted, rtol=1e-5, atol=1e-7)


def test_sigmoid():
    each = logits()
    wanted = sum(x.double().sigmoid() for x in each) / 3
    torch.testing.assert_close(mean_logits(each, "sigmoid").double().sigmoid(), wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_several_times_the_same_is_the_same_and_order_does_not_matter(activation):
    one, *others = logits(scale=30.0)
    same = mean_logits([one, one], activation)
    of = torch.sigmoid if activation == "sigmoid" else lambda x: x.softmax(1)
    torch.testing.assert_close(of(same), of(one))
    torch.testing.assert_close(mean_logits([one, *others], activation), mean_logits([*others, one], activation))


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_far_from_zero_and_in_half_precision(activation):
    far = [torch.tensor([[300.0, -300.0]]), torch.tensor([[-300.0, 300.0]])]
    assert mean_logits(far, activation).isfinite().all()
    half = [x.half() for x in logits()]
    found = mean_logits(half, activation)
    assert found.dtype == torch.float16
    torch.testing.assert_close(found.float(), mean_logits([x.float() for x in half], activation), rtol=1e-3, atol=1e-2)
