"""What a module saw and returned, while it is of interest."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from torch import nn

T = TypeVar("T")


@contextmanager
def record(module: nn.Module, keep: Callable[[tuple[Any, ...], Any], T]) -> Iterator[list[T]]:
    """Collect keep(args, output) of every call of module within the block, in order of the calls.

    The graph of what is kept stays whole; the module's output is not changed.
    """
    calls: list[T] = []

    def hook(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        calls.append(keep(args, output))

    handle = module.register_forward_hook(hook)
    try:
        yield calls
    finally:
        handle.remove()
