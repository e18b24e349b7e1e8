"""A training step whose maps are blank: they have their sizes, but nobody computes their values.

A plan needs the operators of a step and the sizes of its tensors. FakeTensorMode gives them without computing
anything, but cannot go through a detector: which proposals are left, and which anchors and RoIs are sampled, depends on
values. So this step is a real one on the CPU in which FakeTensorMode stands in for the operators whose results are maps
alone. A step of two images of 800x1067 takes seconds in place of a minute.

Its matrix products and convolutions give zeros in pages that the operating system has not filled yet, or faint noise
where they are small, such as the scores by which proposals are ranked. What is made of blank maps and is itself a map
is blank, too; all else is computed.
"""

from typing import Any

import numpy as np
import torch
import torchvision  # noqa: F401 - its operators
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import flop_registry
from torch.utils.weak import WeakIdKeyDictionary

POOLERS = {torch.ops.torchvision.roi_align, torch.ops.torchvision._roi_align_backward}
SMALL = 1 << 22  # numbers: up to here blank maps are noise
NOISE = 0.01  # its standard deviation


class BlankMaps(TorchDispatchMode):
    """Within the block, maps of CPU tensors are blank: see the module."""

    def __init__(self) -> None:
        super().__init__()
        self.fake = FakeTensorMode()
        self.generator = torch.Generator().manual_seed(0)
        self.noise = NOISE * torch.randn(2 * SMALL, generator=self.generator)
        self.blank = WeakIdKeyDictionary()  # storages

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.overloadpacket in flop_registry or func.overloadpacket in POOLERS:
            return tree_map_only(Tensor, self._made, self._sizes(func, args, kwargs))
        if not any(self._is_blank(x) for x in tree_leaves((args, kwargs))):
            return func(*args, **kwargs)
        changed = [argument.alias_info for argument in func._schema.arguments if argument.alias_info is not None]
        if changed:  # a view, or a change in place, which leaves a blank map as it is
            leaves = changed[0].is_write and self._is_blank(args[0]) and func._schema.returns
            return args[0] if leaves else func(*args, **kwargs)
        try:
            sizes = self._sizes(func, args, kwargs)
        except Exception:  # sizes that depend on values, or an operator that has no fake
            return func(*args, **kwargs)
        if not _is_map(next(iter(tree_leaves(sizes)))):
            return func(*args, **kwargs)
        return tree_map_only(Tensor, self._zeros, sizes)

    def _sizes(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Return what an operator gives, as tensors without values."""
        with self.fake:
            args, kwargs = tree_map_only(Tensor, self.fake.from_tensor, (args, kwargs))
            return func(*args, **kwargs)

    def _is_blank(self, x: Any) -> bool:
        return isinstance(x, Tensor) and _is_map(x) and x.untyped_storage() in self.blank

    def _made(self, like: Tensor) -> Tensor:
        made = self._zeros(like)
        if like.is_floating_point() and like.numel() <= SMALL:
            start = int(torch.randint(SMALL, (), generator=self.generator))  # new numbers cost more than the copy
            made.copy_(self.noise[start : start + made.numel()].view(made.shape))
        return made

    def _zeros(self, like: Tensor) -> Tensor:
        """Return zeros of the size, strides and type of a fake tensor; NumPy leaves them to the operating system."""
        count = like.untyped_storage().nbytes() // like.itemsize
        pages = torch.from_numpy(np.zeros(count, f"i{like.itemsize}"))  # NumPy knows no bfloat16
        zeros = pages.view(like.dtype).as_strided(like.shape, like.stride(), like.storage_offset())
        self.blank[zeros.untyped_storage()] = True
        return zeros


def _is_map(x: Any) -> bool:
    """Return whether a tensor can be a batch of maps (N, C, H, W)."""
    return isinstance(x, Tensor) and x.dim() == 4 and x.is_floating_point()
