"""ONNX files: what is written into them beside the graph, and how they are run."""

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor

from densedist.common.errors import UserError
from densedist.common.export import Description

PACKAGES = ("onnx", "onnxruntime", "onnxscript")
OPSET = 18  # from 16 on RoIAlign is Detectron2's


def check_packages() -> None:
    """Make sure that ONNX files can be written and run.

    Raises:
        UserError: a package is missing.
    """
    for name in PACKAGES:
        try:
            import_module(name)
        except ImportError as error:
            raise UserError(
                f"--format onnx: the package {name} is missing: install it by pip install 'dense-dist[export]', "
                "or leave out onnx"
            ) from error


def describe(file: Path, description: Description) -> None:
    """Write the description to the file's metadata_props: text as it is, all else as JSON."""
    import onnx

    model = onnx.load(str(file))
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in description.items()}
    onnx.helper.set_model_props(model, texts)
    onnx.checker.check_model(model)
    onnx.save(model, str(file))


def runner(file: Path) -> Callable[[Tensor], list[Tensor]]:
    """The model in the file as a function of its one input, on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda tensor: [torch.from_numpy(array) for array in session.run(None, {name: tensor.numpy()})]
