"""One memory-mapped file of arrays for each of a list of images, and a record of what it was made of."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from densedist.common.distill.cache import eight_bits
from densedist.common.errors import UserError

KEY = "DISTILL.TEACHER.CACHE"
# Of an image: {"shapes": {name: shape}, "eight_bits": the names of class logits that are kept so, if there are any},
# and what else its reader wants to know, all of it plain data.
About = dict[str, Any]


class Arrays:
    """float16 arrays by name for each of a list of images, in one file that processes share.

    Args:
        file: of filling.fill().
        writable: whether write() may be called.
    """

    def __init__(self, file: Path, writable: bool = False) -> None:
        record = json.loads(record_of(file).read_text())
        self.images: list[str] = [image["image"] for image in record["images"]]
        self.about: list[About] = [image["about"] for image in record["images"]]
        mode: Any = "r+" if writable else "r"
        self._bytes = np.memmap(file, np.uint8, mode, shape=(size_in_bytes(self.about),))
        self._there = np.memmap(there_of(file), np.uint8, mode, shape=(len(self.about),))
        self._starts = np.cumsum([0, *map(_size, self.about)])

    def missing(self) -> list[int]:
        """The images that have no arrays yet."""
        return np.flatnonzero(self._there == 0).tolist()

    def read(self, number: int) -> dict[str, Tensor]:
        """Copies of an image's arrays, float16; of logits in 8 bits the highest of each place is 0."""
        shapes, packed = self.about[number]["shapes"], _packed(self.about[number])
        return {
            name: eight_bits.unpack(np.array(part), shapes[name])
            if name in packed
            else torch.from_numpy(np.array(part).view(np.float16).reshape(shapes[name]))
            for name, part in self._parts(number)
        }

    def write(self, number: int, arrays: Mapping[str, Tensor]) -> None:
        """
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

    def note(self, numbers: Sequence[int]) -> None:
        """Put on record that these images have their arrays, once the disk has them."""
        self._bytes.flush()
        self._there[list(numbers)] = 1
        self._there.flush()

    def _parts(self, number: int) -> Iterator[tuple[str, np.ndarray]]:
        start = self._starts[number]
        for name, size in _sizes(self.about[number]).items():
            yield name, self._bytes[start : start + size]
            start += size


def size_in_bytes(about: Sequence[About]) -> int:
    """What the arrays of images take on the disk."""
    return sum(map(_size, about))


def record_of(file: Path) -> Path:
    """A JSON file: the teacher's fingerprint, seconds, and the images with what is known of each."""
    return file.with_name(f"{file.name}.json")


def there_of(file: Path) -> Path:
    """A byte for each image: whether its arrays are there."""
    return file.with_name(f"{file.name}.there")


def _packed(about: About) -> Sequence[str]:
    return about.get("eight_bits", ())


def _sizes(about: About) -> dict[str, int]:
    """Bytes of each array."""
    packed = _packed(about)
    return {
        name: eight_bits.size_in_bytes(shape) if name in packed else 2 * int(np.prod(shape))
        for name, shape in about["shapes"].items()
    }


def _size(about: About) -> int:
    return sum(_sizes(about).values())
