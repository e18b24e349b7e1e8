"""What a segmentation network can be, by name and by the look of its file."""

from pathlib import Path

from densedist.common.foreign import NAME
from densedist.seg.foreign.transformers import is_transformers

SMP = "smp"
FORMS = (SMP, "transformers", "torch_export", "torchscript", "onnx", "function")  # what MODEL.FORM may be
SUFFIXES = {".pt2": "torch_export", ".onnx": "onnx", ".torchscript": "torchscript"}


def recognize(weights: str) -> str:
    """The form of a path or of a name "module:function"; SMP's for all that has no sign of another."""
    if NAME.fullmatch(weights):
        return "function"
    if is_transformers(weights):
        return "transformers"
    return SUFFIXES.get(Path(weights).suffix, SMP)
