"""What the layers of a graph take, by each runtime's clock: which are in 8 bits, and which are not."""

import numpy as np
import pytest
import torch
from torch import nn

from densedist.common.runtimes import CONVERSION, FLOAT, INT8, RUNTIMES

IMAGES = [np.random.default_rng(0).random((1, 8, 16, 16), np.float32)] * 2


@pytest.fixture(scope="module")
def onnx(tmp_path_factory):
    file = tmp_path_factory.mktemp("spent") / "a.onnx"
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 1)).eval()
    torch.onnx.export(network, (torch.zeros(1, 8, 16, 16),), str(file), input_names=["images"], dynamo=False)
    return file


@pytest.mark.parametrize("name", RUNTIMES)
def test_layers_of_a_graph_in_float_and_in_8_bits(onnx, name, tmp_path):
    runtime = RUNTIMES[name]
    whole, small = tmp_path / f"a{runtime.suffix}", tmp_path / f"b{runtime.suffix}"
    runtime.write(onnx, whole, {})
    runtime.quantize(whole, small, IMAGES)
    layers = runtime.spent(whole, IMAGES[0], runs=2)
    assert FLOAT in {layer.number for layer in layers} <= {FLOAT, CONVERSION}
    assert sum("Conv" in layer.kind for layer in layers) == 3
    coarse = runtime.spent(small, IMAGES[0], runs=2)
    assert sum("Conv" in layer.kind for layer in coarse if layer.number == INT8) == 2
    assert sum("Conv" in layer.kind for layer in coarse if layer.number == FLOAT) == 1  # the last one
    assert any(layer.number == CONVERSION for layer in coarse)
    assert all(layer.seconds >= 0 for layer in layers + coarse)
