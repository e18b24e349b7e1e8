"""ONNX files, which onnxruntime runs and quantizes."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from densedist.common.export_names import NEEDS
from densedist.common.runtimes.runtime import (
    CONVERSION,
    FLOAT,
    INT8,
    Description,
    Graph,
    Input,
    Runtime,
    Spent,
    as_texts,
    from_texts,
)
from densedist.common.runtimes.trunk import Layer, trunk

TYPES = {
    "tensor(uint8)": "uint8",
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(bfloat16)": "bfloat16",
    "tensor(double)": "float64",
}
# Of the trunk, in 8 bits; the rest of it loses more than it gains.
QUANTIZED = ["Conv", "ConvTranspose", "Gemm", "MatMul", "Relu", "Clip", "Add", "MaxPool", "Concat", "Resize"]


class OnnxRuntime(Runtime):
    """onnxruntime; a CUDA device is used where the package has the provider for it."""

    name, suffix, title = "onnx", ".onnx", "onnxruntime"
    needs = NEEDS["onnx"]

    def write(self, onnx: Path, file: Path, description: Description) -> None:
        import onnx as format_

        model = format_.load(str(onnx))
        format_.helper.set_model_props(model, as_texts(description))
        format_.checker.check_model(model)
        format_.save(model, str(file))

    def load(self, file: Path, threads: int = 0, device: str = "cpu") -> Graph:
        session = _session(file, threads, device)
        inputs = [Input(x.name, _sides(x.shape), TYPES.get(x.type, x.type)) for x in session.get_inputs()]
        return Graph(
            inputs,
            [output.name for output in session.get_outputs()],
            lambda images, outputs: session.run(list(outputs), {inputs[0].name: images}),
            from_texts(session.get_modelmeta().custom_metadata_map),
        )

    def spent(self, file: Path, image: np.ndarray, runs: int = 5) -> list[Spent]:
        with TemporaryDirectory() as folder:
            session = _session(file, 1, profiles=Path(folder) / "profile")
            for _ in range(runs + 1):
                session.run(None, {session.get_inputs()[0].name: image})
            events = json.loads(Path(session.end_profiling()).read_text())
        calls: dict[str, list[dict[str, Any]]] = {}
        for event in events:
            if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
                calls.setdefault(event["args"]["node_index"] + event["name"], []).append(event)
        return [
            Spent(kind := of[0]["args"]["op_name"], _number(kind, of[0]), sum(x["dur"] for x in of[1:]) / runs / 1e6)
            for of in calls.values()
        ]

    def describe(self, file: Path) -> Description:
        return self.load(file).description  # the package onnx, which would read less, need not be there

    def quantize(self, file: Path, quantized: Path, images: Sequence[np.ndarray]) -> None:
        import onnx
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        name = self.load(file).inputs[0].name

        class Reader(CalibrationDataReader):
            def __init__(self) -> None:
                self._inputs = ({name: image} for image in images)

            def get_next(self) -> dict[str, np.ndarray] | None:
                return next(self._inputs, None)

        with TemporaryDirectory() as folder:
            ready = Path(folder) / "ready.onnx"
            # Its symbolic inference of shapes comes to no end on sizes that depend on the image; ONNX's own does.
            quant_pre_process(str(file), str(ready), skip_symbolic_shape=True)
            model = onnx.load(str(ready))
            for number, node in enumerate(model.graph.node):
                node.name = node.name or f"{node.op_type}_{number}"
            onnx.save(model, str(ready))
            inside = trunk(_layers(model.graph))
            quantize_static(
                str(ready),
                str(quantized),
                Reader(),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=QUANTIZED,
                nodes_to_quantize=[node.name for node in model.graph.node if node.name in inside],
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                # Weights in 7 bits: of pairs of 8 bits the products overflow on CPUs without VNNI, and are cut there.
                reduce_range=True,
            )
        made = onnx.load(str(quantized))
        # With the shapes that were inferred, onnxruntime reshapes boxes to a side of -1, which fails if there are none.
        del made.graph.value_info[:]
        onnx.save(made, str(quantized))
        self.write(quantized, quantized, self.load(file).description)


def _session(file: Path, threads: int, device: str = "cpu", profiles: Path | None = None) -> Any:
    """Return an onnxruntime.InferenceSession; one that measures itself into a file of a prefix, where it is given."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.force_spinning_stop", "1")  # threads that idle take no core
    if profiles:
        options.enable_profiling, options.profile_file_prefix = True, str(profiles)
    wanted = ["CUDAExecutionProvider"] if device.startswith("cuda") else []
    providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
    return onnxruntime.InferenceSession(str(file), options, [*providers, "CPUExecutionProvider"])


def _number(kind: str, event: Mapping[str, Any]) -> str:
    """Return Spent.number of an operator, which its first input has; QLinearConv's is 8 bits, its scales are not."""
    first = next((name for x in event["args"]["input_type_shape"][:1] for name in x), "")
    if kind in ("QuantizeLinear", "DequantizeLinear", "ReorderInput", "ReorderOutput"):
        return CONVERSION
    return INT8 if first in ("int8", "uint8") else FLOAT if first.startswith("float") else ""


def fix_input(file: Path, shape: Sequence[int]) -> None:
    """Let the graph of an ONNX file take inputs of one shape only; others know the sizes within it before it runs."""
    import onnx
    from onnxruntime.tools.onnx_model_utils import fix_output_shapes, make_input_shape_fixed

    model = onnx.load(str(file))
    make_input_shape_fixed(model.graph, model.graph.input[0].name, list(shape))
    fix_output_shapes(model)
    onnx.save(model, str(file))


def _sides(shape: list[Any]) -> tuple[int | None, ...]:
    return tuple(side if isinstance(side, int) else None for side in shape)


def _layers(graph: Any) -> list[Layer]:
    """Return the nodes of an onnx.GraphProto as layers."""
    constant = {x.name for x in graph.initializer}
    constant |= {output for node in graph.node if node.op_type == "Constant" for output in node.output}
    source = {output: node.name for node in graph.node for output in node.output}
    first_alone = ("Resize", "Pad", "RoiAlign", "Reshape", "Slice", "Split", "Clip", "Squeeze", "Unsqueeze")
    layers = []
    for node in graph.node:
        taken = node.input[:1] if node.op_type in first_alone else node.input
        weighted = any(x in constant for x in node.input[1:2])
        layers.append(Layer(node.name, node.op_type, [source[x] for x in taken if x in source], weighted))
    return layers
