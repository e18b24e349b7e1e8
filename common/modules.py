"""Modules changed for a while: recorded, or in eval mode."""

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
def eval_mode(module: nn.Module) -> Iterator[None]:
    """The module is in eval mode within the block, and afterwards, whatever happened there, in the mode before."""
    # detectron2.evaluation.inference_context stays in eval mode after an exception.
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)
