"""What a GPU's program would wait for, seen on the CPU."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# Their result is a number for Python, or a tensor whose size the device alone knows.
WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive"}
# What is logged is on the CPU everywhere.
LOGGING = ("trainer.py", "_write_metrics"), ("train_loop.py", "_write_metrics")


class _Seen(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = operation.overloadpacket.__name__
        masks = args[1] if name in ("index", "index_put", "index_put_") else ()
        waiting = name in WAITING or any(x is not None and x.dtype in (torch.bool, torch.uint8) for x in masks)
        if waiting and not _stays_on_the_cpu():
            self.names.append(name)
        return operation(*args, **(kwargs or {}))


def _stays_on_the_cpu() -> bool:
    """Return whether numbers of the CPU are meant, there and on a GPU: sizes of images, or what a trainer logs."""
    calls = [(Path(frame.filename).name, frame.name) for frame in traceback.extract_stack()]
    return any(file == "image_list.py" or (file, name) in LOGGING for file, name in calls)


@contextmanager
def waits() -> Iterator[list[str]]:
    """Collect the operations within the block for which the program would wait, by name."""
    with _Seen() as mode:
        yield mode.names
