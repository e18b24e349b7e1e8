"""Check sums of the images in a cache: each process appends those that it has written to a file of its own."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

MISSING = -1  # in place of a check sum
ENTRY = np.dtype([("image", "<u4"), ("sum", "<u4")])


def append_sums(file: Path, writer: int, numbers: Sequence[int], sums: np.ndarray) -> None:
    """Append the check sums of images to the list of a process, and wait until the disk has them.

    Args:
        file: the cache.
        numbers: the images' numbers.
        sums: check sums of all images, by number.
    """
    entries = np.array([(number, sums[number]) for number in numbers], ENTRY)
    with file.with_name(f"{file.name}.sums.{writer}").open("ab") as opened:
        opened.truncate(opened.tell() // ENTRY.itemsize * ENTRY.itemsize)  # an entry that was cut off
        opened.write(entries.tobytes())
        opened.flush()
        os.fsync(opened.fileno())


def read_sums(file: Path, count: int) -> np.ndarray:
    """Return the check sums of a cache's images, int64 (count,), MISSING where an image has no arrays yet."""
    sums = np.full(count, MISSING, np.int64)
    for one in _lists(file):
        data = one.read_bytes()
        entries = np.frombuffer(data[: len(data) // ENTRY.itemsize * ENTRY.itemsize], ENTRY)
        entries = entries[entries["image"] < count]
        sums[entries["image"]] = entries["sum"]
    return sums


def forget_sums(file: Path) -> None:
    """Remove the lists of a cache that is made anew."""
    for one in _lists(file):
        one.unlink()


def _lists(file: Path) -> Iterator[Path]:
    return map(Path, sorted(glob.glob(f"{glob.escape(str(file))}.sums.*")))
