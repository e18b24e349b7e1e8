"""The kinds of models that somebody else has built: MODEL.KIND names one, or the file shows it."""

from pathlib import Path
from zipfile import ZipFile, is_zipfile

from densedist.common.config.functions import NAME
from densedist.common.foreign.transformers import is_transformers

PROGRAMS = ("torch_export", "torchscript", "onnx")
FOREIGN = ("transformers", *PROGRAMS, "function")
SUFFIXES = {".pt2": "torch_export", ".onnx": "onnx", ".torchscript": "torchscript"}


def recognize(weights: str) -> str:
    """Return which of FOREIGN a path or a name "module:function" is of; "" for all that has no sign of one."""
    if NAME.fullmatch(weights):
        return "function"
    if is_transformers(weights):
        return "transformers"
    if kind := SUFFIXES.get(Path(weights).suffix):
        return kind
    return "torchscript" if _is_torchscript(Path(weights)) else ""


def _is_torchscript(file: Path) -> bool:
    """Return whether it is an archive of torch.jit.save, which has code in it; it is not run here."""
    if not (file.is_file() and is_zipfile(file)):
        return False
    with ZipFile(file) as archive:
        names = archive.namelist()
    return any(name.endswith("/constants.pkl") for name in names) and any("/code/" in name for name in names)
