"""docs/centernet_onnx.py: the end of a CenterNet makes boxes, and scores of all classes, of its two maps."""

import runpy

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from densedist.det.config import GRAMMAR
from densedist.det.foreign.load import load_foreign
from helpers.pages import ROOT

PAGE = ROOT / "docs" / "centernet_onnx.py"
PIXELS = ["MODEL.PIXEL_MEAN", "[0.0, 0.0, 0.0]", "MODEL.PIXEL_STD", "[1.0, 1.0, 1.0]"]


def maps():
    """Scores of two classes and distances in 10 x 12 cells: a peak beside a lower one, and a second object."""
    scores, distances = np.zeros((1, 10, 12, 2), np.float32), np.full((1, 10, 12, 4), 1, np.float32)
    scores[0, 3, 2], distances[0, 3, 2] = (0.3, 0.9), (8, 4, 6, 10)
    scores[0, 3, 3] = (0.8, 0.1)  # next to the peak: of the same object
    scores[0, 8, 9], distances[0, 8, 9] = (0.6, 0.2), (2, 3, 4, 5)
    scores[0, 8, 7], distances[0, 8, 7] = (0.5, 0.1), (-6, 3, 12, 5)  # its box is the same
    return {"keypoints": scores, "distances": distances}


def test_a_converted_file_becomes_a_detector(tmp_path):
    """A cell is 4 pixels: by hand [2 · 4 - 8, 3 · 4 - 4, 2 · 4 + 6, 3 · 4 + 10]."""
    given = {name: numpy_helper.from_array(value, name) for name, value in maps().items()}
    image = helper.make_tensor_value_info("images", 1, [1, 3, 40, 48])
    outputs = [helper.make_tensor_value_info(name, 1, list(value.dims)) for name, value in given.items()]
    nodes = [
        helper.make_node("ReduceMin", ["images"], ["darkest"], keepdims=1),
        helper.make_node("Sub", ["darkest", "darkest"], ["zero"]),
        helper.make_node("Constant", [], ["fixed"], value=given["keypoints"]),
        helper.make_node("Add", ["fixed", "zero"], ["keypoints"]),
        helper.make_node("Constant", [], ["distances"], value=given["distances"]),
    ]
    graph = helper.make_graph(nodes, "maps", [image], outputs)
    source, target = str(tmp_path / "raw.onnx"), str(tmp_path / "centernet.onnx")
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8), source)
    runpy.run_path(str(PAGE))["main"](source, target, "keypoints", "distances")
    cfg = GRAMMAR.config()
    cfg.merge_from_list(["MODEL.KIND", "onnx", "MODEL.DEVICE", "cpu", *PIXELS])
    detector = load_foreign(cfg, target, "--weights", ["car", "bus"])
    ((boxes, logits),) = detector.soft_boxes([torch.zeros(3, 40, 48, dtype=torch.uint8)], [(40, 48)])
    assert boxes.tolist() == [[0.0, 8.0, 14.0, 22.0], [34.0, 29.0, 40.0, 37.0]]
    torch.testing.assert_close(logits.sigmoid(), torch.tensor([[0.3, 0.9], [0.6, 0.2]]))
