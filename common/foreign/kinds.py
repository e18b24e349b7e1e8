"""The kinds of models that somebody else has built: MODEL.KIND names one, or the file shows it.

Known without PyTorch, so that a command can refuse at once what it cannot use.
"""

import json
from pathlib import Path
from typing import Any
from zipfile import ZipFile, is_zipfile

from densedist.common.config.functions import NAME
from densedist.common.export_names import NEEDS
from densedist.common.extras import require
from densedist.common.run_files import config_beside

PROGRAMS = ("torch_export", "torchscript", "onnx", "openvino")
FOREIGN = ("transformers", *PROGRAMS, "function")
CONFIG = "config.json"  # of a folder of transformers
SUFFIXES = {".pt2": "torch_export", ".onnx": "onnx", ".xml": "openvino", ".torchscript": "torchscript"}


def recognize(weights: str) -> str:
    """Return which of FOREIGN a path or a name "module:function" is of; "" for all that has no sign of one."""
    if NAME.fullmatch(weights):
        return "function"
    if "model_type" in read_json(Path(weights) / CONFIG):
        return "transformers"
    if kind := SUFFIXES.get(Path(weights).suffix):
        return kind
    return "torchscript" if _is_torchscript(Path(weights)) else ""


def refuse_missing_package(weights: str, key: str, kind: str = "") -> None:
    """Refuse a model whose library is not installed.

    Args:
        weights: see recognize.
        key: what names them, for messages.
        kind: one of FOREIGN; "" = as recognized.

    Raises:
        UserError: naming the library, and the extra that brings it.
    """
    kind = kind or recognize(weights)
    if kind == "transformers":
        require([kind], kind, f"{key}: {weights} is a model of {kind}")
    elif kind in NEEDS:
        require(NEEDS[kind].packages, NEEDS[kind].extra, f"{key}: {weights}")


def kind_alone(weights: str) -> str:
    """Return which of FOREIGN weights are of that have no config.yaml next to them; "" for all others."""
    return "" if config_beside(weights) else recognize(weights)


def read_json(file: Path) -> dict[str, Any]:
    """Return the mapping in a JSON file; an empty one where there is none."""
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _is_torchscript(file: Path) -> bool:
    """Return whether it is an archive of torch.jit.save, which has code in it; it is not run here."""
    if not (file.is_file() and is_zipfile(file)):
        return False
    with ZipFile(file) as archive:
        names = archive.namelist()
    return any(name.endswith("/constants.pkl") for name in names) and any("/code/" in name for name in names)
