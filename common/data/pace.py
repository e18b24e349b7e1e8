"""One call for each of many files, in one thread or in several: whichever is faster here.

Several threads wait for a slow disk together, and share what Pillow does without Python's lock. On files that are in
memory they take the lock from each other at each file, and two cores then take three times as long as one.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from multiprocessing.pool import ThreadPool
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

THREADS = 16
TRIED = 64  # items by which the pace of each way is measured
STRETCH = 4096  # items until the next measurement, twice as many after each


def each(call: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """Yield call(item) for all items, in their order.

    Both ways are measured again and again, as the first files may be in memory and later ones on the disk.
    """
    left = iter(items)
    yield from map(call, islice(left, TRIED))
    if len(items) <= TRIED:
        return
    with ThreadPool(THREADS) as pool:
        alone, together = partial(map, call), partial(pool.imap, call, chunksize=TRIED // THREADS)
        stretch = STRETCH
        while some := list(islice(left, TRIED)):
            seconds = []
            for way in (alone, together):
                began = time.perf_counter()
                found = list(way(some))
                seconds.append((time.perf_counter() - began) / max(len(some), 1))
                yield from found
                some = list(islice(left, TRIED))
            faster = alone if seconds[0] <= seconds[1] else together
            yield from faster([*some, *islice(left, stretch)])
            stretch *= 2
