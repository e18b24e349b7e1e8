"""Random models that pass for trained ones."""

from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


def as_if_trained(model: M) -> M:
    """The model, with vectors that are constant at first (biases, norms and their statistics) changed a little."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for vector in (*model.parameters(), *model.buffers()):
            if vector.dim() == 1 and vector.is_floating_point():
                vector += 0.01 * torch.rand(vector.shape, generator=generator).to(vector.device)
    return model
