"""Read a checkpoint of any project: its tensors, wherever in the file they lie, and its plain values."""

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from densedist.common.config.trust import REMEDY
from densedist.common.errors import UserError, one_line
from densedist.common.importing.importer import Foreign
from densedist.common.nearest import did_you_mean_path

NESTS = ("state_dict", "model", "model_state", "model_state_dict")  # where projects put the tensors
PREFIXES = ("module.", "_orig_mod.", "model.")  # of DDP, of torch.compile, of a Lightning module's network


def read_foreign(file: str, trust_pickle: bool = False) -> Foreign:
    """Read the tensors and plain values of a file of torch.save, or of safetensors.

    Args:
        trust_pickle: also read what needs its author's code, which can do anything.

    Raises:
        UserError: no such file, one that is no checkpoint, or one that needs trust.
    """
    path = Path(file)
    if not path.is_file():
        raise UserError(f"there is no file {file}{did_you_mean_path(file)}")
    content = _read(path, trust_pickle)
    if not isinstance(content, Mapping):
        raise UserError(f"{file} holds {type(content).__name__}: want a checkpoint, a dict with tensors")
    nest = next((name for name in NESTS if isinstance(content.get(name), Mapping)), "")
    inner: Mapping[str, Any] = content[nest] if nest else content
    tensors = {str(name): value for name, value in inner.items() if isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f"{file} holds no tensors")
    while prefix := next((each for each in PREFIXES if all(name.startswith(each) for name in tensors)), ""):
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    meta = content.get("meta", {}) if nest else {}
    return Foreign(file, tensors, meta if isinstance(meta, Mapping) else {})


def _read(path: Path, trust_pickle: bool) -> Any:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with torch.serialization.safe_globals([Namespace]):  # torchvision's scripts keep their arguments in one
            return torch.load(path, map_location="cpu", weights_only=not trust_pickle)
    except UnpicklingError as error:
        raise UserError(
            f"{path} holds more than tensors and plain values, and reading that can run any program that its author "
            f"hid in it; {REMEDY}"
        ) from error
    except Exception as error:
        raise UserError(f"{path} cannot be read as a checkpoint: {one_line(error)}") from error
