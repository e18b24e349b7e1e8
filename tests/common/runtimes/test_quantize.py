"""A graph in 8 bits also runs where nothing is found."""

import numpy as np
import torch
from torch import Tensor, nn

from densedist.common.runtimes import RUNTIMES


class Finder(nn.Module):
    """Finds the bright places of an image, as boxes in the way in which Detectron2 decodes them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        nn.init.constant_(self.conv.weight, 1 / 27)
        nn.init.zeros_(self.conv.bias)

    def forward(self, image: Tensor) -> Tensor:
        places = self.conv(image.float()[None])[0].flatten(1).T
        deltas = places[places[:, 0] > 100]
        corners = [deltas[:, side::4] for side in range(4)]
        return torch.stack(corners, dim=-1).reshape(deltas.shape)


def test_a_graph_of_boxes_runs_where_there_are_none(tmp_path):
    exported, file = tmp_path / "exported.onnx", tmp_path / "model.onnx"
    axes = {"image": {1: "height", 2: "width"}}
    image = torch.full((3, 16, 16), 200, dtype=torch.uint8)
    torch.onnx.export(Finder(), (image,), exported, input_names=["image"], dynamic_axes=axes, dynamo=False)
    runtime = RUNTIMES["onnx"]
    runtime.write(exported, file, {})
    quantized = tmp_path / "model.int8.onnx"
    runtime.quantize(file, quantized, [image.numpy()])
    graph = runtime.load(quantized)
    assert [graph(np.full((3, 20, 24), value, np.uint8))[0].shape for value in (200, 0)] == [(20 * 24 - 4, 4), (0, 4)]
