"""Folding leaves what a model computes as it is, and alone what is not certain to be foldable."""

import copy

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d, get_norm
from detectron2.modeling.backbone.resnet import BottleneckBlock
from torch import nn

from densedist.common.distill.speed import fuse_batch_norms


def with_statistics(model):
    """The model in eval mode, with norms that look trained, in float64: what is left is not rounding."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if getattr(module, "running_var", None) is not None:
            for name, low in (("running_mean", -1), ("running_var", 0.5), ("weight", 0.5), ("bias", -1)):
                values = getattr(module, name)
                if values is not None:
                    values.data = low + torch.rand(values.shape, generator=generator)
    return model.double().eval()


def folded(model):
    result = copy.deepcopy(model)
    fuse_batch_norms(result)
    return result.eval()


def norms(model):
    return sum(isinstance(m, (nn.modules.batchnorm._BatchNorm, FrozenBatchNorm2d)) for m in model.modules())


MODELS = {
    "Detectron2, FrozenBN": lambda: BottleneckBlock(4, 8, bottleneck_channels=4, num_groups=2, norm="FrozenBN"),
    "Detectron2, SyncBN": lambda: BottleneckBlock(4, 8, bottleneck_channels=4, norm="SyncBN"),
    "Sequential": lambda: nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 2, 1)),
    "norm without weight": lambda: nn.Sequential(nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6, affine=False)),
    "SMP, basic blocks": lambda: smp.PSPNet("resnet18", encoder_weights=None, encoder_depth=3, in_channels=4),
    "SMP, bottlenecks": lambda: smp.DeepLabV3("resnet50", encoder_weights=None, in_channels=4, decoder_channels=16),
    "timm": lambda: timm.create_model("resnet26", in_chans=4),
}


@pytest.mark.parametrize("norm", [nn.utils.weight_norm, nn.utils.spectral_norm, nn.utils.parametrizations.weight_norm])
def test_weights_that_are_made_anew_in_every_call_are_left_alone(norm):
    def make():
        return with_statistics(nn.Sequential(norm(nn.Conv2d(4, 6, 3)), nn.BatchNorm2d(6)))

    torch.manual_seed(0)
    model, x = make(), torch.randn(2, 4, 9, 9, dtype=torch.float64)
    with torch.no_grad():
        wanted = model(x)
        fuse_batch_norms(model)
        torch.testing.assert_close(model(x), wanted, rtol=1e-9, atol=1e-9)
    assert norms(model) == 1


LEFT = {"SMP, bottlenecks": 2}  # in the decoder, a Sequential with a forward of its own


@pytest.mark.parametrize("name", MODELS)
def test_folded_models_compute_the_same_without_batch_norm(name):
    torch.manual_seed(0)
    model = with_statistics(MODELS[name]())
    without = folded(model)
    x = torch.randn(2, 4, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(without(x), model(x), rtol=1e-9, atol=1e-9)
    assert norms(model) > norms(without) == LEFT.get(name, 0)


def test_weights_are_rounded_once():
    torch.manual_seed(0)
    exact = with_statistics(Conv2d(4, 8, 3, norm=get_norm("FrozenBN", 8)))
    single = copy.deepcopy(exact).float()
    for m in (single.norm, exact.norm):  # the same numbers on both sides
        m.double()
    exact.weight.data = single.weight.double()
    fuse_batch_norms(exact)
    fuse_batch_norms(single)
    assert torch.equal(single.weight, exact.weight.float())


class TwoNormsForOne(nn.Module):
    """A convolution shared by two branches."""

    def __init__(self):
        super().__init__()
        conv = nn.Conv2d(4, 4, 1)
        self.a, self.b = (nn.Sequential(conv, nn.BatchNorm2d(4)) for _ in "ab")

    def forward(self, x):
        return self.a(x) - self.b(x)


class OwnForward(nn.Sequential):
    """Its children run in another order than they are listed."""

    def forward(self, x):
        return self[0](self[1](x))


UNCERTAIN = {
    "shared convolution": TwoNormsForOne,
    "a forward of its own": lambda: OwnForward(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)),
    "statistics of the batch": lambda: nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)),
    "an activation between": lambda: nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.BatchNorm2d(4)),
    "activation within": lambda: nn.Sequential(Conv2d(4, 4, 1, activation=torch.relu), nn.BatchNorm2d(4)),
    "a norm of groups": lambda: nn.Sequential(nn.Conv2d(4, 4, 1), nn.GroupNorm(2, 4)),
}


@pytest.mark.parametrize("name", UNCERTAIN)
def test_what_is_not_certain_stays(name):
    model = with_statistics(UNCERTAIN[name]())
    same = folded(model)
    assert norms(same) == norms(model)
    x = torch.randn(2, 4, 8, 8, dtype=torch.float64)
    assert torch.equal(same(x), model(x))
