"""Images that two sides of a config share, by content: a score on training images is not fair."""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from multiprocessing.pool import ThreadPool
from pathlib import Path

from detectron2.config import CfgNode

from densedist.common.data.images import THREADS
from densedist.common.data.sides import TRAINED

PART = 4096  # bytes that are read of the beginning, the middle and the end of a file


def shared_images(files: Iterable[str], others: Iterable[str]) -> list[str]:
    """Return the files that are among the others by their content, whatever their names, in order of path.

    A file is read only as far as it looks like one of the other side: its size first, then parts of it, then all. What
    cannot be read is left out.
    """
    sides = [dict.fromkeys(sorted(files)), dict.fromkeys(sorted(others))]
    found: set[str] = set()
    with ThreadPool(THREADS) as pool:
        for key in (_place, _size, _parts, _whole):
            values: list[Mapping[str, object]] = [dict(zip(side, pool.map(key, side), strict=True)) for side in sides]
            both = (set(values[0].values()) & set(values[1].values())) - {None}
            alike = [[file for file, value in of_side.items() if value in both] for of_side in values]
            if key is _place:  # one file by two names needs no reading
                found.update(alike[0])
                sides[0] = dict.fromkeys(file for file in sides[0] if file not in found)
            else:
                sides = [dict.fromkeys(of_side) for of_side in alike]
    return sorted({*found, *sides[0]})


def overlaps(cfg: CfgNode, images: Callable[[CfgNode, str], Iterable[str]]) -> list[str]:
    """Return a line for each side of DATASETS to train on that has images of DATASETS.TEST, with how many.

    None with DATALOADER.CHECK_FILES False.

    Args:
        cfg: with its data sets looked up.
        images: a task's method of that name.
    """
    sides = [side for side in TRAINED if cfg.DATASETS[side]]
    if not (sides and cfg.DATASETS.TEST and cfg.DATALOADER.CHECK_FILES):
        return []
    tested = set(images(cfg, "TEST"))
    lines = []
    for side in sides:
        if both := shared_images(tested, images(cfg, side)):
            lines.append(
                f"{len(both)} of {len(tested)} images of DATASETS.TEST are in DATASETS.{side}, too, first {both[0]}: "
                "scores on them say little of other images"
            )
    return lines


def _place(file: str) -> tuple[int, int] | None:
    try:
        about = os.stat(file)
    except OSError:
        return None
    return about.st_dev, about.st_ino


def _size(file: str) -> int | None:
    try:
        return os.path.getsize(file) or None
    except OSError:
        return None


def _parts(file: str) -> bytes | None:
    try:
        with open(file, "rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            parts = []
            for start in (0, size // 2, max(size - PART, 0)):
                opened.seek(start)
                parts.append(opened.read(PART))
    except OSError:
        return None
    return hashlib.blake2b(b"".join(parts)).digest()


def _whole(file: str) -> bytes | None:
    try:
        return hashlib.blake2b(Path(file).read_bytes()).digest()
    except OSError:
        return None
