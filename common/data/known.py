"""What an earlier start found of files: it is not looked for again until they change."""

from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Generic, TypeVar

import numpy as np

from densedist.common.data.headers import memory
from densedist.common.data.packed import Stamp, cache_file, is_settled, read_head, stamp_of, write_head

R = TypeVar("R")
Stamps = tuple[Stamp, ...]  # of the files of an item
VERSION = 1  # of what is found


class Known(Generic[R]):
    """Results for items that consist of files, by the sizes, times of change and inodes of these.

    Args:
        depends: what else a result depends on, as text.
        files: of each item.
    """

    def __init__(self, depends: str, files: Sequence[Sequence[str]]) -> None:
        self._files = files
        parts = [str(VERSION), version("pillow"), f"{memory():.0f}", depends, *("\0".join(of_one) for of_one in files)]
        self._where = cache_file("known", parts)
        self._stamps: list[Stamps | None] = [None] * len(files)
        self._results: list[R | None] = [None] * len(files)
        if found := read_head(self._where):
            there, stamps, self._results = found
            for number, of_one in zip(there, stamps.tolist(), strict=True):
                self._stamps[number] = tuple(map(tuple, of_one))
        self._is_new = False

    def look(self, number: int, find: Callable[[], R]) -> tuple[R, Stamps | None]:
        """Return what is known of an item, or what find() says; with that, the stamps for learn(), if it may be kept.

        Nothing changes here, so it may be called in a copy of this process.
        """
        try:
            stamps = tuple(map(stamp_of, self._files[number]))
        except OSError:
            return find(), None
        if stamps == self._stamps[number] and (known := self._results[number]) is not None:
            return known, None
        return find(), stamps if all(map(is_settled, stamps)) else None

    def learn(self, number: int, result: R, stamps: Stamps) -> None:
        """Remember what look() has found of an item."""
        self._stamps[number], self._results[number], self._is_new = stamps, result, True

    def keep(self) -> None:
        """Write what is known for the next start, where the user's cache can be written."""
        if not self._is_new:
            return
        there = [number for number, stamps in enumerate(self._stamps) if stamps]
        write_head(self._where, (there, np.array([self._stamps[number] for number in there]), _once(self._results)))


def _once(results: list[R]) -> list[R]:
    """Return results of which equal ones are one object, as far as that can be said of them."""
    once: dict[R, R] = {}
    try:
        return [once.setdefault(result, result) for result in results]
    except TypeError:  # arrays
        return results
