"""One call for each of many files, in whichever way is fastest here: one thread, several, or several processes.

Several threads wait for a slow disk together, and share what Pillow does without Python's lock. On files that are in
memory they take the lock from each other at each file, and two cores then take three times as long as one. Processes
have a lock each, but must be started, and send what they find to this one.
"""

import gc
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import islice
from multiprocessing import get_context
from multiprocessing.pool import ThreadPool
from typing import Any, TypeVar

from densedist.common.errors import UserError
from densedist.common.machine import cores

T = TypeVar("T")
R = TypeVar("R")
Way = Callable[[Iterable[T]], Iterable[R]]

THREADS = 16
PROCESSES = 16  # at most
TRIED = 128  # items by which the pace of each way is measured
STRETCH = 4096  # items until the next measurement, twice as many after each


def each(call: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """Yield call(item) for all items, in their order.

    All ways are measured again and again, as the first files may be in memory and later ones on the disk.

    Args:
        call: changes nothing, as it may run in a copy of this process.

    Raises:
        UserError: the system has ended such a copy.
    """
    left = iter(items)
    yield from map(call, islice(left, TRIED))
    if len(items) <= TRIED:
        return
    with ExitStack() as stack:
        ways: list[Way[T, R]] = [partial(map, call)]
        if len(items) > STRETCH and (processes := min(cores(), PROCESSES)) > 1 and sys.platform == "linux":
            ways.append(stack.enter_context(_copies(call, processes)))  # first, as a copy has none of the threads
        threads = stack.enter_context(ThreadPool(THREADS))
        ways.append(partial(threads.imap, call, chunksize=TRIED // THREADS))
        stretch = STRETCH
        while some := list(islice(left, TRIED)):
            seconds = []
            for way in ways:
                began = time.perf_counter()
                found = list(way(some))
                seconds.append((time.perf_counter() - began) / max(len(some), 1))
                yield from found
                some = list(islice(left, TRIED))
            yield from ways[seconds.index(min(seconds))]([*some, *islice(left, stretch)])
            stretch *= 2


@contextmanager
def _copies(call: Callable[[T], R], processes: int) -> Iterator[Way[T, R]]:
    """Copy this process several times for a block, and yield a way to call in the copies, which already have `call`."""
    pool = ProcessPoolExecutor(processes, get_context("fork"), _begin, (call,))

    def way(items: Iterable[T]) -> Iterator[R]:
        return pool.map(_call, items, chunksize=TRIED // processes)

    try:
        pool.submit(int).result()  # makes all copies
        yield way
    except BrokenProcessPool as error:
        raise UserError(
            "a process that reads files was ended by the system, which may lack memory: free some, and try again"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(call: Callable[[Any], Any]) -> None:
    """Prepare a copy: what stops a run is for the first process to see, and its objects stay shared."""
    global _call_here
    _call_here = call
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    gc.disable()


def _call(item: Any) -> Any:
    return _call_here(item)


_call_here: Callable[[Any], Any] = repr
