"""Which layers of a graph are in 8 bits, in how many their weights are, and what each takes by the runtime's clock."""

import numpy as np
import onnx as onnx_
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from densedist.common.runtimes import CONVERSION, FLOAT, INT8, RUNTIMES
from densedist.common.runtimes.openvino_runtime import _core

IMAGES = [np.random.default_rng(0).random((1, 8, 16, 16), np.float32)] * 2


@pytest.fixture(scope="module")
def onnx(tmp_path_factory):
    file = tmp_path_factory.mktemp("spent") / "a.onnx"
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 1)).eval()
    torch.onnx.export(network, (torch.zeros(1, 8, 16, 16),), str(file), input_names=["images"], dynamo=False)
    return file


@pytest.fixture(scope="module", params=RUNTIMES)
def files(request, onnx, tmp_path_factory):
    """A runtime, and its graph in float32 and in 8 bits."""
    runtime, folder = RUNTIMES[request.param], tmp_path_factory.mktemp("files")
    whole, small = folder / f"a{runtime.suffix}", folder / f"b{runtime.suffix}"
    runtime.write(onnx, whole, {})
    runtime.quantize(whole, small, IMAGES)
    return runtime, whole, small


def test_layers_of_a_graph_in_float_and_in_8_bits(files):
    runtime, whole, small = files
    layers = runtime.spent(whole, IMAGES[0], runs=2)
    assert FLOAT in {layer.number for layer in layers} <= {FLOAT, CONVERSION}
    assert sum("Conv" in layer.kind for layer in layers) == 3
    coarse = runtime.spent(small, IMAGES[0], runs=2)
    assert sum("Conv" in layer.kind for layer in coarse if layer.number == INT8) == 2
    assert sum("Conv" in layer.kind for layer in coarse if layer.number == FLOAT) == 1  # the last one
    assert any(layer.number == CONVERSION for layer in coarse)
    assert all(layer.seconds >= 0 for layer in layers + coarse)


def test_weights_have_7_bits_whose_products_do_not_overflow_without_vnni(files):
    runtime, _, small = files
    if runtime.name == "onnx":
        arrays = [numpy_helper.to_array(x) for x in onnx_.load(str(small)).graph.initializer]
    else:
        operators = _core().read_model(str(small)).get_ops()
        arrays = [x.data for x in operators if x.get_type_name() == "Constant" and x.get_element_type().is_integral()]
    weights = [array for array in arrays if array.dtype == np.int8 and array.ndim == 4]
    assert len(weights) == 2
    assert all(32 < np.abs(array.astype(int)).max() <= 64 for array in weights)
