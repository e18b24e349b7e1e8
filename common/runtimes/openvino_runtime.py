"""OpenVINO's .xml files with their .bin, which OpenVINO runs and NNCF quantizes."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
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

INFO = "model_info"  # where OpenVINO's own tools put what they say of a model
TYPES = {"u8": "uint8", "f32": "float32", "f16": "float16", "bf16": "bfloat16", "f64": "float64"}
TOKENS = "MVN"  # the operator of LayerNorm, by which transformers are known
os.environ.setdefault("NNCF_CI", "1")  # without it NNCF sends statistics of its use to its authors


class OpenVino(Runtime):
    """OpenVINO on the CPU."""

    name, suffix, title = "openvino", ".xml", "OpenVINO"
    needs = NEEDS["openvino"]

    def write(self, onnx: Path, file: Path, description: Description) -> None:
        from openvino._offline_transformations import apply_moc_transformations

        # As openvino.convert_model does it, which also sends statistics of its use to OpenVINO's authors.
        model = _core().read_model(str(onnx))
        apply_moc_transformations(model, cf=False, smart_reshape=True)
        _save(model, file, description)

    def load(self, file: Path, threads: int = 0, device: str = "cpu") -> Graph:
        model = _core().read_model(str(file))
        compiled = _compiled(model, threads)
        outputs = [output.get_any_name() for output in compiled.outputs]

        def compute(images: np.ndarray, wanted: Sequence[str]) -> list[np.ndarray]:
            found = compiled(images)
            return [found[outputs.index(name)].copy() for name in wanted]

        inputs = [Input(x.get_any_name(), _sides(x), _type(x)) for x in compiled.inputs]
        return Graph(inputs, outputs, compute, _description(model))

    def spent(self, file: Path, image: np.ndarray, runs: int = 5) -> list[Spent]:
        request = _compiled(_core().read_model(str(file)), 1, PERF_COUNT=True).create_infer_request()
        request.infer(image)
        seconds: dict[str, float] = {}
        for _ in range(runs):
            request.infer(image)
            # A layer that was merged with another is not executed.
            layers = {x.node_name: x for x in request.get_profiling_info() if x.status.name == "EXECUTED"}
            for name, layer in layers.items():
                seconds[name] = seconds.get(name, 0.0) + layer.real_time.total_seconds() / runs
        return [Spent(x.node_type, _number(x), seconds[name]) for name, x in layers.items()]

    def describe(self, file: Path) -> Description:
        return _description(_core().read_model(str(file)))

    def quantize(self, file: Path, quantized: Path, images: Sequence[np.ndarray]) -> None:
        import nncf

        model = _core().read_model(str(file))
        description = _description(model)
        layers = _layers(model)
        inside = trunk(layers)
        outside = [layer.name for layer in layers if layer.name not in inside]
        scope = nncf.IgnoredScope(names=outside, validate=False)
        # Weights in 7 bits, as in onnx_runtime.py, and not only in the first layer. Ranges of activations by channel,
        # NNCF's for depthwise convolutions, meet the wrong axis where transformers turn maps to tokens.
        advanced = nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE)
        if any(layer.kind == TOKENS for layer in layers):
            one_range = nncf.quantization.advanced_parameters.QuantizationParameters(per_channel=False)
            advanced.activations_quantization_params = one_range
        options = {"subset_size": len(images), "ignored_scope": scope, "advanced_parameters": advanced}
        with ThreadPoolExecutor(1) as thread:  # NNCF has a Core of its own, which goes: see _core
            done = thread.submit(nncf.quantize, model, nncf.Dataset(images), **options).result()
        _save(done, quantized, description)

    def files(self, file: Path) -> list[Path]:
        return [file, file.with_suffix(".bin")]


@cache
def _core() -> Any:
    """Return the only openvino.Core of this process, which stays.

    OpenVINO's plugin gives the thread that compiles its first graph a stack for signals. When the last Core goes, and
    that happens in another thread, the plugin takes the stack away and leaves the thread with its address: the next
    signal, such as the end of a child, ends the process (OpenVINO 2026.4).
    """
    import openvino

    return openvino.Core()


def _compiled(model: Any, threads: int, **more: Any) -> Any:
    # Else CPUs that can would compute in bfloat16.
    options = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"} | more
    return _core().compile_model(model, "CPU", options | ({"INFERENCE_NUM_THREADS": threads} if threads else {}))


def _number(layer: Any) -> str:
    """Return Spent.number of an openvino.ProfilingInfo, whose exec_type is such as brgconv_avx2_1x1_f32.

    The runtime fuses most of NNCF's quantizations, named .../fq_output_0, into the layers before them.
    """
    if layer.node_type in ("FakeQuantize", "Reorder") or "/fq_" in layer.node_name:
        return CONVERSION
    end = layer.exec_type.rpartition("_")[2].lower()
    return INT8 if end in ("i8", "u8") else FLOAT if end == "f32" else ""


def _save(model: Any, file: Path, description: Description) -> None:
    import openvino

    for key, text in as_texts(description).items():
        model.set_rt_info(text, [INFO, key])
    openvino.save_model(model, str(file), compress_to_fp16=False)


def _description(model: Any) -> dict[str, Any]:
    if not model.has_rt_info(INFO):
        return {}
    return from_texts({key: value.astype(str) for key, value in model.get_rt_info(INFO).astype(dict).items()})


def _sides(port: Any) -> tuple[int | None, ...]:
    return tuple(side.get_length() if side.is_static else None for side in port.get_partial_shape())


def _type(port: Any) -> str:
    name = port.get_element_type().get_type_name()
    return TYPES.get(name, name)


def _layers(model: Any) -> list[Layer]:
    """Return the operations of an openvino.Model as layers."""
    first_alone = ("Interpolate", "Pad", "ROIAlign", "Reshape", "StridedSlice", "Slice", "VariadicSplit", "Split")
    layers = []
    for op in model.get_ordered_ops():
        kind = op.get_type_name()
        if kind == "Constant":
            continue
        sources = [op.input_value(number).get_node() for number in range(op.get_input_size())]
        taken = sources[:1] if kind in (*first_alone, "Transpose", "Squeeze", "Unsqueeze") else sources
        names = [x.get_friendly_name() for x in taken if x.get_type_name() != "Constant"]
        layers.append(Layer(op.get_friendly_name(), kind, names, len(sources) > 1 and _is_constant(sources[1])))
    return layers


def _is_constant(op: Any) -> bool:
    """Return whether an operation is a constant, perhaps of another shape or type."""
    while op.get_type_name() in ("Convert", "Reshape", "Transpose"):
        op = op.input_value(0).get_node()
    return op.get_type_name() == "Constant"
