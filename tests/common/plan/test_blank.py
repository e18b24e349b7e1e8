"""Steps with blank maps: the sizes and the operators of real ones, and what torchvision documents."""

import pytest
import torch
from torch import nn
from torchvision.models import ResNet18_Weights, ResNet50_Weights, resnet18, resnet50

from densedist.common.plan.blank import BlankMaps
from densedist.common.plan.tally import Tally


def tally(model, *inputs):
    with BlankMaps(), Tally("all") as found:
        result = model(*inputs)
    return result, found


def test_multiply_adds_by_hand():
    layers = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 4 * 6, 5))
    result, found = tally(layers, torch.rand(2, 3, 8, 12))
    assert result.shape == (2, 5)
    assert [o.flops / 2 for o in found.operators if o.flops] == [2 * 4 * 6 * 4 * 27, 2 * 96 * 5]
    images, weights, maps = 2 * 3 * 8 * 12, 4 * 27 + 4, 2 * 4 * 4 * 6
    assert [o.moved for o in found.operators[:2]] == [4 * (images + weights + maps), 4 * (maps + maps)]
    assert [o.convolution for o in found.operators if o.flops] == [True, False]


def test_the_backward_pass_of_a_convolution_is_twice_the_forward_pass():
    first, second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
    _, found = tally(lambda x: second(first(x)).sum().backward(), torch.rand(1, 3, 4, 4))
    forward, backward = 16 * (3 * 4 + 4 * 4), 16 * (3 * 4 + 2 * 4 * 4)  # the images need no gradient
    assert sum(o.flops for o in found.operators) == 2 * (forward + backward)


@pytest.mark.parametrize(("build", "weights"), [(resnet18, ResNet18_Weights), (resnet50, ResNet50_Weights)])
def test_multiply_adds_as_torchvision_documents_them(build, weights, quick_weights):
    _, found = tally(build().eval(), torch.rand(1, 3, 224, 224))
    assert sum(o.flops for o in found.operators) / 2e9 == pytest.approx(weights.IMAGENET1K_V1.meta["_ops"], rel=2e-3)


def test_what_depends_on_values_is_computed():
    scores = torch.tensor([[0.5, 0.1], [0.9, 0.2]])
    with BlankMaps():
        maps = nn.functional.conv2d(torch.rand(1, 3, 64, 64), torch.rand(512, 3, 5, 5))
        assert torch.equal((scores > 0.4).nonzero(), torch.tensor([[0, 0], [1, 0]]))
        noise = maps.flatten()
        assert noise.topk(1).values > 0  # small maps are ranked
        changed = maps.relu_()
    assert changed is maps
    assert maps.shape == (1, 512, 60, 60)
