"""What the operators of a step do, and how much memory its tensors take, by the parts of the step."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry
from torch.utils.weak import WeakIdKeyDictionary, weakref

aten = torch.ops.aten
CONVOLUTIONS = {aten.convolution, aten.convolution_backward}


class Operator(NamedTuple):
    """A call of an operator.

    Args:
        part: of the step.
        convolution: whether it is one, which cuDNN computes.
        dtype: of its first floating operand.
        flops: by PyTorch's formulas; a multiply-add is two.
        moved: bytes that it has to read and write, each tensor once.
    """

    part: str
    convolution: bool
    dtype: torch.dtype
    flops: int
    moved: int


class Peak(NamedTuple):
    """The worst moment of a part: bytes of all tensors, of which gradients of parameters."""

    total: int = 0
    gradients: int = 0


class Tally(TorchDispatchMode):
    """Within the block, all operators are listed, and the memory of what they return is followed until it is free.

    PyTorch's MemTracker does the latter, too, but not of models with frozen parameters.

    Args:
        part: what the step begins with.

    Attributes:
        operators: in order; views are left out.
        peaks: by part.
    """

    def __init__(self, part: str) -> None:
        super().__init__()
        self.operators: list[Operator] = []
        self.peaks: dict[str, Peak] = {}
        self.alive = self.gradients = 0  # bytes
        self._parts = [part]
        self._known = WeakIdKeyDictionary()

    def follow(self, tensor: Tensor) -> None:
        """Count the memory of a tensor until it is free; once, however many share it."""
        storage = tensor.untyped_storage()
        if storage in self._known:
            return
        size = storage.nbytes()
        self._known[storage] = weakref.finalize(storage, self._free, size)
        self.alive += size
        if self.alive > self.peaks.get(self._parts[-1], Peak()).total:
            self.peaks[self._parts[-1]] = Peak(self.alive, self.gradients)

    def follow_gradient(self, parameter: Tensor) -> None:
        """Take the gradient of a parameter for one: a hook for when it is there."""
        assert parameter.grad is not None
        self.gradients += parameter.grad.nbytes

    @contextmanager
    def within(self, part: str, *modules: nn.Module) -> Iterator[None]:
        """Count, within the block, what modules compute as a part of its own."""
        handles = [module.register_forward_pre_hook(self._enter(part)) for module in modules]
        handles += [module.register_forward_hook(self._leave, always_call=True) for module in modules]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def begin(self, part: str) -> None:
        """Begin another part."""
        self._parts = [part]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        taken, given = ([x for x in tree_leaves(side) if isinstance(x, Tensor)] for side in ((args, kwargs), result))
        formula = flop_registry.get(func.overloadpacket)
        flops = int(formula(*args, **kwargs, out_val=result)) if formula else 0
        moved = _moved(func, taken, given)
        if flops or moved:
            dtype = next((x.dtype for x in taken if x.is_floating_point()), torch.float32)
            convolution = func.overloadpacket in CONVOLUTIONS
            self.operators.append(Operator(self._parts[-1], convolution, dtype, flops, moved))
        for x in given:
            self.follow(x)
        return result

    def _free(self, size: int) -> None:
        self.alive -= size

    def _enter(self, part: str) -> Callable[..., None]:
        return lambda *_: self._parts.append(part)

    def _leave(self, *_: Any) -> None:
        self._parts.pop()


def _moved(func: Any, taken: list[Tensor], given: list[Tensor]) -> int:
    """Return the bytes that an operator reads and writes; a view and memory without values move none."""
    if func.overloadpacket.__name__.startswith(("empty", "new_empty")):
        return 0
    written = any(a.alias_info is not None and a.alias_info.is_write for a in func._schema.arguments)
    sources = {x.untyped_storage()._cdata for x in taken}
    if given and not written and all(x.untyped_storage()._cdata in sources for x in given):
        return 0
    return sum(min(x.nbytes, x.untyped_storage().nbytes()) for x in (*taken, *given))
