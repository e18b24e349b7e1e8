"""Which layers of a graph are quantized: its trunk.

The last layers stay in float, as their outputs are what is predicted: 8 bits are too few for boxes and logits. So does
all that is computed from these, as boxes and their suppression, and what normalizes images.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# With weights, in ONNX's words and OpenVINO's.
WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul", "Convolution", "GroupConvolution", "ConvolutionBackpropData"}
# Through which maps pass from one weighted layer to the next.
CARRYING = {
    *("Relu", "PRelu", "LeakyRelu", "Elu", "Gelu", "Clip", "Clamp", "Sigmoid", "HardSigmoid", "HardSwish", "HSwish"),
    *("Swish", "Mish", "Erf", "Tanh", "Softmax", "Softplus", "SoftPlus", "Sqrt", "Pow", "Power"),
    *("Add", "Sub", "Subtract", "Mul", "Multiply", "Div", "Divide", "Sum", "Max", "Maximum", "Min", "Minimum"),
    *("Concat", "Pad", "Split", "VariadicSplit", "Slice", "StridedSlice", "Resize", "Interpolate"),
    *("MaxPool", "AveragePool", "AvgPool", "GlobalAveragePool", "ReduceMean"),
    *("BatchNormalization", "InstanceNormalization", "LayerNormalization", "MVN"),
    *("Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Dropout", "Identity", "Cast", "Convert"),
    *("RoiAlign", "ROIAlign"),
}


@dataclass(frozen=True)
class Layer:
    """A layer of a graph.

    Args:
        kind: its operator.
        inputs: the layers whose maps it takes: of a resize, a pad or a RoiAlign the first input alone.
        weighted: its second input is constant.
    """

    name: str
    kind: str
    inputs: Sequence[str]
    weighted: bool


def trunk(layers: Iterable[Layer]) -> set[str]:
    """Return the names of the layers that lie before a weighted layer: those with weights, and all after these.

    Args:
        layers: of a graph, in the order in which they are computed.
    """
    kept = {x.name: x for x in layers if (x.kind in WEIGHTED and x.weighted) or x.kind in CARRYING | WEIGHTED}
    weights = {name for name, layer in kept.items() if layer.kind in WEIGHTED and layer.weighted}
    after: set[str] = set()
    for name, layer in kept.items():
        if name in weights or any(x in after for x in layer.inputs):
            after.add(name)
    before: set[str] = set()
    for name in reversed(kept):
        if name in weights or name in before:
            before.update(x for x in kept[name].inputs if x in kept)
    return after & before
