"""Runtimes: what runs an exported graph without PyTorch, and quantizes it."""

from collections.abc import Mapping

from densedist.common.runtimes.onnx_runtime import OnnxRuntime
from densedist.common.runtimes.onnx_runtime import fix_input as fix_input
from densedist.common.runtimes.openvino_runtime import OpenVino
from densedist.common.runtimes.runtime import CONVERSION as CONVERSION
from densedist.common.runtimes.runtime import FLOAT as FLOAT
from densedist.common.runtimes.runtime import INT8 as INT8
from densedist.common.runtimes.runtime import Graph as Graph
from densedist.common.runtimes.runtime import Input as Input
from densedist.common.runtimes.runtime import Runtime as Runtime
from densedist.common.runtimes.runtime import Spent as Spent

# By the name of their format, which is MODEL.KIND of their files.
RUNTIMES: Mapping[str, Runtime] = {runtime.name: runtime for runtime in (OnnxRuntime(), OpenVino())}
