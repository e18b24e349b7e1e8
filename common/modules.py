"""Change modules within a block: record or change their outputs, or put them into eval mode."""

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


@contextmanager
def changed(module: nn.Module, change: Callable[[tuple[Any, ...], Any], Any]) -> Iterator[None]:
    """Let module return change(args, output) within the block; record() blocks around this one see its output."""
    handle = module.register_forward_hook(lambda _, args, output: change(args, output))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Put a module in eval mode within the block; afterwards, whatever happened there, each of its parts is in the mode
    that it was in before: one that was kept in eval mode, such as a frozen batch norm, stays in it."""
    # detectron2.evaluation.inference_context stays in eval mode after an exception, and wakes such parts.
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        module.train(modes[0][1])  # a part may do more in its train() than set the flag
        for part, training in modes:
            part.training = training
