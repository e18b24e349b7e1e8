"""Formats of exports by name, known without PyTorch."""

from collections.abc import Sequence

from densedist.common.errors import UserError
from densedist.common.nearest import did_you_mean

WEIGHTS, TORCH = "weights", "torch"
FORMATS = (WEIGHTS, "onnx", "openvino", TORCH)
USUAL = (WEIGHTS, "onnx", TORCH)


def refuse_unknown(chosen: Sequence[str]) -> None:
    """Refuse formats that are none.

    Raises:
        UserError: naming the first, and what there is.
    """
    if unknown := [name for name in chosen if name not in FORMATS]:
        near = did_you_mean(unknown[0], FORMATS, most=1)
        raise UserError(f"--format: there is no format {unknown[0]}; want any of {','.join(FORMATS)}{near}")
    if not chosen:
        raise UserError(f"--format is empty; want any of {','.join(FORMATS)}")
