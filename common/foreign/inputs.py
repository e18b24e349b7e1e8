"""What a program says of its input: one batch of images, of which type and size."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.export import ExportedProgram

from densedist.common.errors import UserError
from densedist.common.runtimes import Input

TYPES = (torch.uint8, torch.float32, torch.float16, torch.bfloat16, torch.float64)
NAMES = {str(dtype).removeprefix("torch."): dtype for dtype in TYPES}


@dataclass(frozen=True)
class Images:
    """The images (N, 3, H, W) that a program takes.

    Args:
        dtype: their type; uint8 = raw pixels of 0 to 255, which the program normalizes by itself.
        size: height and width, where it takes only one; None = it takes several, or does not say.
        single: it takes one image (3, H, W), without a dimension for several.
    """

    dtype: torch.dtype = torch.float32
    size: tuple[int, int] | None = None
    single: bool = False


def exported_images(program: ExportedProgram) -> Images:
    """Return what images an exported program takes.

    Raises:
        UserError: it takes something else.
    """
    names = program.graph_signature.user_inputs
    values = [node.meta["val"] for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    if len(values) != 1 or not isinstance(values[0], torch.Tensor):
        raise UserError(f"it has {len(names)} inputs: want one, the images")
    return _checked([side if isinstance(side, int) else None for side in values[0].shape], values[0].dtype)


def graph_images(inputs: Sequence[Input]) -> Images:
    """Return what images a runtime's graph takes.

    Raises:
        UserError: it takes something else.
    """
    if len(inputs) != 1:
        raise UserError(f"it has {len(inputs)} inputs: want one, the images")
    shape, dtype = inputs[0].shape, NAMES.get(inputs[0].dtype, inputs[0].dtype)
    if len(shape) == 3 and shape[0] == 3:
        return replace(_checked([1, *shape], dtype), single=True)
    return _checked(shape, dtype)


def script_images(module: torch.jit.ScriptModule) -> Images:
    """Return what images a TorchScript module takes: of the type of its weights, of any size."""
    found = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
    return Images(found if found in TYPES else torch.float32)


def _checked(shape: Sequence[int | None], dtype: Any) -> Images:
    """Refuse an input that is no (N, 3, H, W) of a type that images can have; a side None may be any."""
    sides = ["any" if side is None else str(side) for side in shape]
    if len(shape) == 4 and shape[1] not in (3, None) and shape[3] == 3:
        raise UserError(f"its images ({', '.join(sides)}) have their channels last: want (N, 3, H, W)")
    if len(shape) != 4 or shape[1] not in (3, None):
        raise UserError(f"its input is ({', '.join(sides)}): want images (N, 3, H, W)")
    if dtype not in TYPES:
        raise UserError(f"its images are {dtype}: want uint8 or floating-point numbers")
    height, width = shape[2:]
    return Images(dtype, None if height is None or width is None else (height, width))
