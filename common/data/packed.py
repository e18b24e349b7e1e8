"""Many small items in one array of bytes, which processes share, and which a later start finds again."""

import gc
import hashlib
import io
import mmap
import os
import pickle
import struct
import time
from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import accumulate
from pathlib import Path
from typing import IO, Any

import numpy as np

from densedist.common.data import digits
from densedist.common.errors import UserError
from densedist.common.files import write_atomic
from densedist.common.locks import locked

VERSION = 1  # of the files
ENDS = np.dtype(np.int64)
MARK = b"packed-1"
SIZES = struct.Struct("<QQ8s")  # at the end of a file: number of items, bytes of the head, MARK
SETTLED = 2e9  # nanoseconds after a change in which another one may leave a file's times as they are
Stamp = tuple[int, int, int]  # size, time of change, inode
NO_SOURCE = 0, 0, 0


class Shared(Sequence[Any]):
    """Items that are made as they are asked for, each time anew: processes have what they are made of in common."""

    @abstractmethod
    def item(self, number: int) -> Any:
        """Return the item with this number, from 0."""

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self.item(at) for at in range(len(self))[number]]
        return self.item(range(len(self))[number])


class Packed(Shared):
    """Items that are unpickled as they are asked for, each time anew.

    In a file they take memory only as far as they are read, and once for all processes of a machine.

    Args:
        head: what is known of all items.
        content: bytes (B,) of the items.
        ends: where each ends (n,).

    Attributes:
        new: whether they have just been made.
    """

    new = True

    def __init__(self, head: Any, content: np.ndarray, ends: np.ndarray) -> None:
        self.head, self._content, self._ends = head, content, ends

    def __len__(self) -> int:
        return len(self._ends)

    def item(self, number: int) -> Any:
        start = self._ends[number - 1] if number else 0
        return pickle.loads(
            self._content[start : self._ends[number]].data
        )  # of this process, or of a file of this user

    def _known(self) -> "Packed":
        self.new = False
        return self


def pack(head: Any, items: Iterable[Any]) -> Packed:
    """Pack items into the memory of this process."""
    file = io.BytesIO()
    ends = _write_items(file, items)
    return Packed(head, np.frombuffer(file.getbuffer(), np.uint8), ends)


def kept(kind: str, source: Path, parts: Sequence[str], make: Callable[[], tuple[Any, Iterable[Any]]]) -> Packed:
    """Return what is made of a file, once on a machine: later starts and other processes find it in the user's cache.

    It is made again when the file's size, time of change or inode has changed. Where the cache cannot be written, it is
    made in memory.

    Args:
        kind: of items, for the name of the cache's file.
        source: the file.
        parts: what else the items depend on.
        make: returns head and items.

    Raises:
        OSError: the source cannot be read.
        UserError: as make.
    """
    stamp = stamp_of(source)
    where = cache_file(kind, [str(source.absolute()), *parts])
    if (found := _mapped(where, stamp)) is not None:
        return found._known()
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(where.with_suffix(".lock")))
        except UserError:  # the cache cannot be written
            return pack(*make())
        if (found := _mapped(where, stamp)) is not None:  # by another process in the meantime
            return found._known()
        made = make()
        if not is_settled(stamp):
            return pack(*made)
        try:
            _write(where, stamp, *made)
        except OSError:  # a full disk; the items are gone
            return pack(*make())
        found = _mapped(where, stamp)
        return pack(*make()) if found is None else found


def cache_file(kind: str, parts: Sequence[str]) -> Path:
    """Return the place in the user's cache for what is made of some parts."""
    digest = hashlib.sha256("\0".join([str(VERSION), kind, *parts]).encode(errors="surrogateescape")).hexdigest()
    return digits.root().parent / "data" / f"{kind}-{digest[:24]}.bin"


def read_head(where: Path) -> Any:
    """Return what write_head has written to the user's cache; None where there is nothing."""
    found = _mapped(where, NO_SOURCE)
    return None if found is None else found.head


def write_head(where: Path, head: Any) -> None:
    """Write something that is not None to the user's cache; where it cannot be written, nothing happens."""
    with suppress(OSError):
        where.parent.mkdir(parents=True, exist_ok=True)
        _write(where, NO_SOURCE, head, ())


def stamp_of(file: str | Path) -> Stamp:
    """Return size, time of change and inode of a file.

    Raises:
        OSError: it is not there.
    """
    about = os.stat(file)
    return about.st_size, about.st_mtime_ns, about.st_ino


def is_settled(stamp: Stamp) -> bool:
    """Return whether another change of a file would show in its stamp."""
    return time.time_ns() - stamp[1] > SETTLED


@contextmanager
def without_collector() -> Iterator[None]:
    """Let the collector of garbage rest in a block that makes millions of objects, none of them garbage."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _write(where: Path, stamp: Stamp, head: Any, items: Iterable[Any]) -> None:
    """Write items to the cache: their bytes, where each ends, the head, and how much there is of each."""

    def write(file: IO[bytes]) -> None:
        ends = _write_items(file, items)
        file.write(ends.tobytes())
        about = pickle.dumps((stamp, head), pickle.HIGHEST_PROTOCOL)
        file.write(about + SIZES.pack(len(ends), len(about), MARK))

    write_atomic(where, write)


def _mapped(where: Path, stamp: Stamp) -> Packed | None:
    """Return what the cache has of a file with this stamp; None where it has nothing."""
    try:
        with where.open("rb") as file:
            if os.fstat(file.fileno()).st_uid != os.getuid():  # only what this user has written is unpickled
                return None
            content = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
    except (OSError, ValueError):  # not there, or empty
        return None
    if len(content) < SIZES.size:
        return None
    count, length, mark = SIZES.unpack(content[-SIZES.size :].data)
    body = len(content) - SIZES.size - length - count * ENDS.itemsize
    if mark != MARK or body < 0:
        return None
    written_of, head = pickle.loads(content[len(content) - SIZES.size - length : -SIZES.size].data)
    if written_of != stamp:
        return None
    ends = np.frombuffer(content[body : body + count * ENDS.itemsize].tobytes(), ENDS)
    return Packed(head, content, ends)


def _write_items(file: IO[bytes], items: Iterable[Any]) -> np.ndarray:
    """Write items, and return where each ends."""
    ends, end = [], 0
    for item in items:
        end += file.write(pickle.dumps(item, pickle.HIGHEST_PROTOCOL))
        ends.append(end)
    return np.array(ends, ENDS)


class Mapped(Shared):
    """What a function makes of items of sequences of one length, each time that one is asked for."""

    def __init__(self, function: Callable[..., Any], *items: Sequence[Any]) -> None:
        self._function, self._items = function, items

    def __len__(self) -> int:
        return len(self._items[0])

    def item(self, number: int) -> Any:
        return self._function(*(items[number] for items in self._items))


class Chained(Shared):
    """The items of several sequences, one after another."""

    def __init__(self, parts: Sequence[Sequence[Any]]) -> None:
        self._parts, self._ends = parts, list(accumulate(map(len, parts)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def item(self, number: int) -> Any:
        part = bisect_right(self._ends, number)
        return self._parts[part][number - (self._ends[part - 1] if part else 0)]
