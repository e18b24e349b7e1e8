"""How DIST uses a CPU: work shared out among Python threads, and memory in huge pages."""

import ctypes
import mmap
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor

A = TypeVar("A")
B = TypeVar("B")


def in_threads(start: Callable[[], Callable[[A], B]], items: Sequence[A], device: torch.device) -> list[B]:
    """What the function that start makes gives for each item, in their order, without a gradient.

    On the CPU torch.get_num_threads() threads take one item after the other. If they shared each operation instead,
    they would wait for each other at its end, and a core that another program uses would stop them all, every time.
    What comes out does not depend on the number of threads. On another device nothing is shared out.

    Args:
        start: called in each thread, for what a thread needs for itself.
        device: where the operations run.
    """
    left = iter(range(len(items)))  # of all threads: Python's lock lets one at a time take the next
    found: dict[int, B] = {}

    @torch.no_grad()
    def run() -> None:
        work = start()
        for number in left:
            found[number] = work(items[number])

    if device.type == "cpu":
        _on_the_cpu(run, len(items))
    else:
        run()
    return [found[number] for number in range(len(items))]


@contextmanager
def one_thread() -> Iterator[None]:
    """The operations of the calling thread are not shared out.

    For a few numbers, too: MKL shares out even those of a square root, and waits milliseconds where a core is busy.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # of this thread, and of every one that starts from now on
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _on_the_cpu(run: Callable[[], None], most: int) -> None:
    count = min(torch.get_num_threads(), most)

    def run_alone() -> None:
        torch.set_num_threads(1)
        run()

    with one_thread():
        if count == 1:
            run()
        else:  # new ones every time: in a forked process those of a pool would be missing
            with ThreadPoolExecutor(count) as pool:
                for done in [pool.submit(run_alone) for _ in range(count)]:
                    done.result()


LARGE = 1 << 22  # bytes
HUGE_PAGE = 1 << 21


def empty_like(tensor: Tensor) -> Tensor:
    """torch.empty_like; where Linux has huge pages on demand, in these, which are filled in less time."""
    out = torch.empty_like(tensor)
    size = out.numel() * out.element_size()
    advise = _advise() if out.device.type == "cpu" and size >= LARGE else None
    if advise:
        start = -(-out.data_ptr() // HUGE_PAGE) * HUGE_PAGE
        advise(start, (out.data_ptr() + size - start) // HUGE_PAGE * HUGE_PAGE, mmap.MADV_HUGEPAGE)
    return out


@cache
def _advise() -> Callable[[int, int, int], int] | None:
    """The C library's madvise(address, bytes, advice), which mmap has for its own memory only."""
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    return advise
