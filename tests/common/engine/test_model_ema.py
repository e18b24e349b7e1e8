"""An average of the weights, tensor by tensor; how a model names its state does not matter."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from densedist.common.engine import hooks


class Renamed(nn.Sequential):
    """A model whose checkpoints have names of their own."""

    def state_dict(self, *args, **kwargs):
        state = super().state_dict(*args, **kwargs)
        return {f"net.{name}": x for name, x in state.items()}

    def load_state_dict(self, state, *args, **kwargs):
        return super().load_state_dict({name.removeprefix("net."): x for name, x in state.items()}, *args, **kwargs)


@pytest.mark.parametrize("kind", [nn.Sequential, Renamed])
def test_each_tensor_is_averaged(kind):
    model = kind(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))
    ema = hooks.ModelEMA(model, decay=0.9)
    assert (ema._places[0] is None) == (kind is Renamed)
    ema.trainer = SimpleNamespace(iter=1000)
    before = {name: x.clone() for name, x in ema.model.state_dict().items()}
    with torch.no_grad():
        for x in model.parameters():
            x += 1
    model(torch.randn(4, 2, 5, 5))
    model[1].running_var = model[1].running_var.clone() * 3  # put in another's place
    ema.after_step()
    for name, average in ema.model.state_dict().items():
        now = model.state_dict()[name]
        wanted = 0.9 * before[name] + 0.1 * now if now.is_floating_point() else now
        torch.testing.assert_close(average, wanted)
    assert ema.model.state_dict()[name] == 1  # of batches
