"""What a GPU's program would wait for, seen on the CPU."""

import traceback
from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# Their result is a number for Python, or a tensor whose size the device alone knows.
WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive"}


class _Waits(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        name = operation.overloadpacket.__name__
        masks = args[1] if name in ("index", "index_put", "index_put_") else ()
        waiting = name in WAITING or any(x is not None and x.dtype in (torch.bool, torch.uint8) for x in masks)
        # The sizes of images are numbers of the CPU everywhere.
        if waiting and not any(frame.filename.endswith("image_list.py") for frame in traceback.extract_stack()):
            self.seen.append(name)
        return operation(*args, **(kwargs or {}))


@contextmanager
def waits():
    """The operations within the block for which the program would wait, by name."""
    with _Waits() as mode:
        yield mode.seen
