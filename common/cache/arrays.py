"""One memory-mapped file of arrays for a list of images, and a record of what it was made from."""

import json
import mmap
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from densedist.common.cache import eight_bits
from densedist.common.cache.check_sums import MISSING, append_sums, read_sums
from densedist.common.errors import UserError

KEY = "DISTILL.TEACHER.CACHE"
REMEDY = "name another folder, or delete this one"
PAGE = mmap.PAGESIZE
# Of an image: {"shapes": {name: shape}, "eight_bits": the names of class logits that are kept so, if there are any},
# and what else its reader wants to know, all of it plain data.
About = dict[str, Any]


class Arrays:
    """float16 arrays by name for each of a list of images, in one file that processes share.

    Args:
        file: as filling.fill() has made it.
        writable: whether write() and note() may be called.

    Raises:
        UserError: the file has lost its end, or something was put to it.
    """

    def __init__(self, file: Path, writable: bool = False) -> None:
        record = json.loads(record_of(file).read_text())
        self.images: list[str] = [image["image"] for image in record["images"]]
        self.about: list[About] = [image["about"] for image in record["images"]]
        self._file, self._starts = file, _starts(self.about, record["page"])
        if (there := file.stat().st_size) != (size := max(int(self._starts[-1]), 1)):
            raise UserError(f"{KEY}: {file} has {there} bytes of {size}: {REMEDY}")
        self._bytes = np.memmap(file, np.uint8, "r+" if writable else "r", shape=(size,))
        self._sums = read_sums(file, len(self.images))
        self._checked = np.zeros(len(self.images), bool)

    def missing(self) -> list[int]:
        """Return the images that have no arrays yet."""
        return np.flatnonzero(self._sums == MISSING).tolist()

    def read(self, number: int) -> dict[str, Tensor]:
        """Return copies of an image's arrays, float16; of logits in 8 bits the highest of each place is 0.

        Raises:
            UserError: the image has none, or what the disk has of them is not what was written.
        """
        if not self._checked[number]:  # once in a process: it takes as long as a copy
            self._check(number)
            self._checked[number] = True
        shapes, packed = self.about[number]["shapes"], _packed(self.about[number])
        return {
            name: eight_bits.unpack(np.array(part), shapes[name])
            if name in packed
            else torch.from_numpy(np.array(part).view(np.float16).reshape(shapes[name]))
            for name, part in self._parts(number)
        }

    def _check(self, number: int) -> None:
        if (known := self._sums[number]) == MISSING:
            raise UserError(f"{KEY}: {self._file} has no entry for {self.images[number]} yet: {REMEDY}")
        if known != self._sum(number):
            raise UserError(f"{KEY}: the entry of {self.images[number]} in {self._file} is damaged: {REMEDY}")

    def write(self, number: int, arrays: Mapping[str, Tensor]) -> None:
        """Write the arrays of an image.

        Raises:
            UserError: numbers that float16 does not hold, or logits that 8 bits do not hold well enough.
        """
        for name, part in self._parts(number):
            half = arrays[name].cpu().half()
            which = f"{name} of {self.images[number]}"
            if not half.isfinite().all():
                raise UserError(f"{KEY}: {which} is not finite in float16: train without it")
            if name not in _packed(self.about[number]):
                part[...] = half.contiguous().numpy().reshape(-1).view(np.uint8)
                continue
            part[...] = eight_bits.pack(arrays[name])
            if (moved := eight_bits.moved(arrays[name], part)) > eight_bits.MOVED:
                raise UserError(
                    f"{KEY}_BITS: in 8 bits a class probability in {which} moves by {moved:.3f}, which is more than "
                    f"{eight_bits.MOVED}: set it to 16"
                )

    def note(self, numbers: Sequence[int], writer: int = 0) -> None:
        """Put on record that these images have their arrays, once the disk has them.

        Args:
            writer: the number of the process, which has one file for this.
        """
        self._bytes.flush()
        for number in numbers:
            self._sums[number] = self._sum(number)
        append_sums(self._file, writer, numbers, self._sums)

    def _sum(self, number: int) -> int:
        start, size = int(self._starts[number]), _size(self.about[number])
        return zlib.crc32(self._bytes[start : start + size].data)

    def _parts(self, number: int) -> Iterator[tuple[str, np.ndarray]]:
        start = self._starts[number]
        for name, size in _sizes(self.about[number]).items():
            yield name, self._bytes[start : start + size]
            start += size


def size_in_bytes(about: Sequence[About]) -> int:
    """Return what the arrays of images take on the disk."""
    return int(_starts(about, PAGE)[-1])


def _starts(about: Sequence[About], page: int) -> np.ndarray:
    """Return where the arrays of each image begin, and where the file ends.

    No two images share a page: machines that write to one page of a network's disk would undo each other's work.
    """
    return np.cumsum([0, *(-(-_size(one) // page) * page for one in about)])


def record_of(file: Path) -> Path:
    """Return the path of a file's record, JSON: what the teacher is, seconds, and the images with what is known of
    each."""
    return file.with_name(f"{file.name}.json")


def _packed(about: About) -> Sequence[str]:
    return about.get("eight_bits", ())


def _sizes(about: About) -> dict[str, int]:
    """Return the bytes of each array."""
    packed = _packed(about)
    return {
        name: eight_bits.size_in_bytes(shape) if name in packed else 2 * int(np.prod(shape))
        for name, shape in about["shapes"].items()
    }


def _size(about: About) -> int:
    return sum(_sizes(about).values())
