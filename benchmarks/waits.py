"""What a GPU's program would wait for, and what is copied there from Python's numbers, seen on the CPU."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# Their result is a number for Python, or a tensor whose size the device alone knows.
WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive"}
COPY = "lift_fresh"  # of torch.tensor
LOGGING = "trainer.py", "train_loop.py"  # ours and Detectron2's


class _Seen(TorchDispatchMode):
    def __init__(self, copies: bool) -> None:
        super().__init__()
        self.copies, self.names = copies, list[str]()

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = operation.overloadpacket.__name__
        masks = args[1] if name in ("index", "index_put", "index_put_") else ()
        waiting = name in WAITING or any(x is not None and x.dtype in (torch.bool, torch.uint8) for x in masks)
        if (waiting or (self.copies and name == COPY)) and not _stays_on_the_cpu():
            self.names.append(name)
        return operation(*args, **(kwargs or {}))


def _stays_on_the_cpu() -> bool:
    """Return whether numbers of the CPU are meant, there and on a GPU: sizes of images, or what a trainer logs."""
    *callers, _, _ = [Path(frame.filename).name for frame in traceback.extract_stack()]  # without this file
    return "image_list.py" in callers or callers[-1] in LOGGING


@contextmanager
def waits(copies: bool = False) -> Iterator[list[str]]:
    """Collect the operations within the block for which the program would wait, by name.

    Args:
        copies: collect a COPY for each tensor that is made of numbers, too.
    """
    with _Seen(copies) as mode:
        yield mode.names
