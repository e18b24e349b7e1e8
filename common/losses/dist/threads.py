"""Work shared out among Python threads on the CPU, each of which runs its operations alone."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

A = TypeVar("A")
B = TypeVar("B")


def in_threads(start: Callable[[], Callable[[A], B]], items: Sequence[A], device: torch.device) -> list[B]:
    """Return f(item) for each item, in order, without gradients; start() makes one f per thread.

    On the CPU torch.get_num_threads() threads take one item after the other. If they shared each operation instead,
    they would wait for each other at its end, and a core that another program uses would stop them all, every time.
    The results do not depend on the number of threads. On another device this thread does it all.

    Args:
        start: called in each thread, so that f may have scratch of its own.
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
    """Run, within the block, the operations of the calling thread in that thread alone.

    Even for a few numbers: MKL shares out those of a square root, too, and waits milliseconds where a core is busy.
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
