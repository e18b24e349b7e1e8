"""Images that two sides of a config share, by content: a score on training images is not fair."""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from detectron2.config import CfgNode

from densedist.common.data.pace import each
from densedist.common.data.sides import TRAINED

PART = 4096  # bytes that are read of the beginning, the middle and the end of a file


def shared_images(files: Iterable[str], others: Iterable[str]) -> list[str]:
    """Return the files that are among the others by their content, whatever their names, in order of path.

    A file is read only as far as it looks like one of the other side: its size first, then parts of it, then all. What
    cannot be read is left out.
    """
    sides = [list(dict.fromkeys(sorted(side))) for side in (files, others)]
    abouts = {file: about for side in sides for file, about in zip(side, each(_about, side), strict=True)}
    places, sizes = ({file: about[number] for file, about in abouts.items()} for number in (0, 1))
    found = set(_alike(sides, places)[0])  # one file by two names needs no reading
    sides = _alike([[file for file in sides[0] if file not in found], sides[1]], sizes)
    for key in (_parts, _whole):
        values = {file: value for side in sides for file, value in zip(side, each(key, side), strict=True)}
        sides = _alike(sides, values)
    return sorted({*found, *sides[0]})


def _alike(sides: Sequence[Sequence[str]], values: Mapping[str, object]) -> list[list[str]]:
    """Return the files of each side whose value a file of the other side has, too."""
    one, other = ({values[file] for file in side} for side in sides)
    both = (one & other) - {None}
    return [[file for file in side if values[file] in both] for side in sides]


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


def _about(file: str) -> tuple[tuple[int, int] | None, int | None]:
    """Return the place of a file on the disk, and its size."""
    try:
        about = os.stat(file)
    except OSError:
        return None, None
    return (about.st_dev, about.st_ino), about.st_size or None


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
