"""Append the end of a CenterNet to its ONNX file, so that it gives boxes, and scores of all classes, in the form that
docs/foundation.md describes: python docs/centernet_onnx.py FROM.onnx TO.onnx KEYPOINTS DISTANCES.

KEYPOINTS names the output (1, H, W, K) with the scores of each class at each cell, from 0 to 1; DISTANCES the one
(1, H, W, 4) from a cell to the left, upper, right and lower edges of its box, in pixels. A cell is 4 x 4 pixels.
"""

import sys

import onnx
from onnx import compose, parser

# A box is where no cell around has a higher score of any class. Boxes that overlap a surer one by half are left out.
END = """
<ir_version: 8, opset_import: ["": 16]>
end (float[1, h, w, k] keypoints, float[1, h, w, 4] distances) => (float[n, 4] boxes, float[n, k] scores) {
    best = ReduceMax <axes = [3], keepdims = 0> (keypoints)
    channel = Constant <value = int64[1] {1}> ()
    surest = Unsqueeze (best, channel)
    around = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (surest)
    is_peak = Equal (surest, around)
    none = Constant <value = float {0.0}> ()
    peaks = Where (is_peak, surest, none)
    all = Constant <value = int64[1] {-1}> ()
    flat = Reshape (peaks, all)
    most = Constant <value = int64[1] {100}> ()
    highest, cells = TopK (flat, most)
    classes = Shape <start = 3> (keypoints)
    by_class = Concat <axis = 0> (all, classes)
    rows = Reshape (keypoints, by_class)
    found = Gather (rows, cells)
    four = Constant <value = int64[2] {-1, 4}> ()
    edges = Reshape (distances, four)
    far = Gather (edges, cells)
    width_of_map = Shape <start = 2, end = 3> (keypoints)
    y = Div (cells, width_of_map)
    x = Mod (cells, width_of_map)
    last = Constant <value = int64[1] {1}> ()
    column = Unsqueeze (x, last)
    row = Unsqueeze (y, last)
    corner = Concat <axis = 1> (column, row, column, row)
    in_cells = Cast <to = 1> (corner)
    cell = Constant <value = float {4.0}> ()
    centers = Mul (in_cells, cell)
    signs = Constant <value = float[4] {-1.0, -1.0, 1.0, 1.0}> ()
    offsets = Mul (far, signs)
    placed = Add (centers, offsets)
    image = Constant <value = int64[1] {0}> ()
    of_image = Unsqueeze (placed, image)
    both = Constant <value = int64[2] {0, 1}> ()
    of_one = Unsqueeze (highest, both)
    half = Constant <value = float[1] {0.5}> ()
    some = Constant <value = float[1] {0.000001}> ()
    kept = NonMaxSuppression (of_image, of_one, most, half, some)
    two = Constant <value = int64 {2}> ()
    numbers = Gather <axis = 1> (kept, two)
    boxes = Gather (placed, numbers)
    scores = Gather (found, numbers)
}
"""


def with_end(model: onnx.ModelProto, keypoints: str, distances: str) -> onnx.ModelProto:
    """Return a model whose outputs are boxes (N, 4), [x0, y0, x1, y1] in pixels, and scores (N, K)."""
    end = parser.parse_model(END)
    end.ir_version = model.ir_version
    joined = [(keypoints, "keypoints"), (distances, "distances")]
    merged = compose.merge_models(model, end, joined, outputs=["boxes", "scores"])
    onnx.checker.check_model(merged, full_check=True)
    return merged


def main(source: str, target: str, keypoints: str, distances: str) -> None:
    """Write the file."""
    onnx.save(with_end(onnx.load(source), keypoints, distances), target)


if __name__ == "__main__":
    main(*sys.argv[1:])
