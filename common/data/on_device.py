"""Batches on the device that trains: each tensor is copied once, for student and teacher, and nobody waits for it."""

from typing import Any

import torch
from torch import Tensor


def on_device(data: Any, device: torch.device) -> Any:
    """The samples, or what they are made of, with all tensors on a device.

    Those in the pinned memory of build_loader's batches are copied while the program goes on. What is no tensor, list,
    tuple or dict, such as Detectron2's Instances, stays where it is.
    """
    if isinstance(data, Tensor):
        return data.to(device, non_blocking=True)
    if type(data) in (list, tuple):
        return type(data)(on_device(part, device) for part in data)
    return {name: on_device(part, device) for name, part in data.items()} if type(data) is dict else data
