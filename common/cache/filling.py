"""Fill a file of a teacher's arrays: compute what is missing, once; refuse a file of another teacher or image."""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

from detectron2.utils import comm
from filelock import BaseFileLock
from torch import Tensor
from tqdm import tqdm

from densedist.common.cache.arrays import KEY, PAGE, REMEDY, About, Arrays, record_of, size_in_bytes
from densedist.common.cache.check_sums import MISSING, forget_sums, read_sums
from densedist.common.data.pace import THREADS
from densedist.common.errors import UserError, on_main_process
from densedist.common.files import write_text
from densedist.common.fingerprint import Fingerprint, differences
from densedist.common.locks import try_lock
from densedist.common.logging import on_terminal

logger = logging.getLogger(__name__)
VERSION = 3  # of the record and the file
PAUSE = 1.0  # seconds between two looks at what another process does
PATIENCE = 60.0  # seconds
BLOCK = 2**24  # bytes written at a time where a disk cannot be asked for room
FLUSHED = 64  # arrays are on the disk before it is noted that they are, so many images at a time


def cache_file(folder: Path, name: str, kind: str) -> Path:
    """Return the file of a data set in a folder of caches, by its name or path.

    One that is there by the path from the current folder goes on: former versions kept paths of a config relative.

    Args:
        kind: the suffix.
    """
    here = Path.cwd()
    former = str(Path(name).relative_to(here)) if Path(name).is_relative_to(here) else name
    files = [folder / f"{called.replace('/', '_')}.{kind}" for called in (former, name)]
    return files[0] if files[0].is_file() else files[1]


def fill(
    file: Path,
    images: Sequence[str],
    teacher: Fingerprint,
    about: Callable[[int], About],
    compute: Callable[[int], Mapping[str, Tensor]],
) -> float:
    """Make a file of Arrays for images, or what of it is still missing; all processes share the work.

    Args:
        file: a file of a folder that is made if need be, and that all machines share. Several runs may ask for it at
            once: one works, others wait.
        images: files.
        teacher: what decides what is computed, by name (common/fingerprint.py).
        about, compute: return, for the number of an image, what is known of its arrays beforehand, and the arrays.

    Returns:
        seconds that the file has taken, those of earlier runs included.

    Raises:
        UserError: a file of another teacher or of other images, a disk without room, or what Arrays.write() refuses.
    """
    with _only_run(file):
        on_main_process(lambda: _begin(file, images, teacher, about))
        _check_shared(file)
        arrays = Arrays(file, writable=True)
        missing = arrays.missing()
        comm.synchronize()  # everybody has read what is missing before anybody writes
        if missing:
            start = time.perf_counter()
            _compute(arrays, missing[comm.get_rank() :: comm.get_world_size()], compute, file.name)
            # Not a barrier: other processes may need longer than it waits.
            while comm.get_world_size() > 1 and (read_sums(file, len(images)) == MISSING).any():
                time.sleep(PAUSE)
            on_main_process(lambda: _add_seconds(file, time.perf_counter() - start))
        record = _read(file)
    seconds: float = record["seconds"]
    size = file.stat().st_size / 2**20
    done = f"{len(missing)} computed now, " if missing else ""
    logger.info(f"{KEY}: {file}: {len(images)} images, {done}{size:.1f} MB, {seconds:.0f} s once")
    return seconds


def _compute(arrays: Arrays, numbers: Sequence[int], compute: Callable[[int], Mapping[str, Tensor]], name: str) -> None:
    written: list[int] = []
    try:
        for number in tqdm(numbers, f"teacher on {name}", disable=not (on_terminal() and comm.is_main_process())):
            arrays.write(number, compute(number))
            written.append(number)
            if len(written) == FLUSHED:
                arrays.note(written, comm.get_rank())
                written.clear()
    finally:
        arrays.note(written, comm.get_rank())


def _begin(file: Path, images: Sequence[str], teacher: Fingerprint, about: Callable[[int], About]) -> None:
    """Make sure that there is a file for these images, with a record that is true."""
    if not (record_of(file).is_file() and file.is_file()):
        record_of(file).unlink(missing_ok=True)
        forget_sums(file)
        known: dict[str, dict[str, Any]] = {}
        digests = _digests(images, known)
        entries = [digest | {"about": about(number)} for number, digest in enumerate(digests)]
        _reserve(file, size_in_bytes([entry["about"] for entry in entries]))
        _write(
            file,
            {"version": VERSION, "page": PAGE, "teacher": dict(teacher), "seconds": 0.0, "images": entries},
        )
        return
    record = _read(file)
    if record.get("version") != VERSION:
        raise UserError(f"{KEY}: {file} was written by another version of densedist: {REMEDY}")
    if found := differences(record["teacher"], teacher):
        other = "another teacher, or for other settings of images or logits"
        raise UserError(f"{KEY}: {file} was made for {other}: {REMEDY} ({found[0]})")
    entries = record["images"]
    if [Path(entry["image"]).name for entry in entries] != [Path(image).name for image in images]:
        raise UserError(
            f"{KEY}: {file} was made for {len(entries)} images, not all of which are in the data set: {REMEDY}"
        )
    digests = _digests(images, {entry["image"]: entry for entry in entries})
    for entry, digest in zip(entries, digests, strict=True):
        if entry["sha256"] != digest["sha256"]:
            raise UserError(f"{KEY}: {file}: {digest['image']} has changed since it was made: {REMEDY}")
    _write(file, record | {"images": [entry | digest for entry, digest in zip(entries, digests, strict=True)]})


def _check_shared(file: Path) -> None:
    """Make sure that all processes see the same record."""
    wait = time.monotonic() + PATIENCE  # what another machine has made a network's disk may show late
    while True:
        text = record_of(file).read_bytes() if record_of(file).is_file() else b""
        if len(set(comm.all_gather(hashlib.sha256(text).digest()))) == 1:
            return
        if any(comm.all_gather(time.monotonic() > wait)):
            raise UserError(f"{KEY}: {file.parent} is not the same folder on all machines: name one that they share")
        time.sleep(PAUSE)


def _digests(images: Sequence[str], known: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a short digest of each image's content; the known one where size and time of change are the same."""

    def digest(image: str) -> dict[str, Any]:
        there = os.stat(image)
        stamp = {"image": image, "bytes": there.st_size, "changed": there.st_mtime_ns}
        old = known.get(image, {})
        if all(old.get(name) == value for name, value in stamp.items()):
            return stamp | {"sha256": old["sha256"]}
        return stamp | {"sha256": hashlib.sha256(Path(image).read_bytes()).hexdigest()}

    with ThreadPool(THREADS) as pool:
        return pool.map(digest, images, chunksize=16)


def _reserve(file: Path, size: int) -> None:
    """Write a file of zeros that has its room on the disk: a write to a mapped file must not find the disk full."""
    try:
        with file.open("wb") as opened:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(opened.fileno(), 0, max(size, 1))
            else:  # macOS
                for start in range(0, max(size, 1), BLOCK):
                    opened.write(bytes(min(BLOCK, max(size, 1) - start)))
    except OSError as error:
        file.unlink(missing_ok=True)
        raise UserError(f"{KEY}: no room for {size / 2**20:.0f} MB in {file.parent}: {error.strerror}") from error


@contextmanager
def _only_run(file: Path) -> Iterator[None]:
    """Hold the cache for the processes of this run; the main one has the lock.

    Others do not wait for it in a collective, which would end at the time limit of the process group.
    """
    taken: list[BaseFileLock] = []

    def take() -> None:
        try:
            taken.extend(filter(None, [try_lock(file.with_name(f"{file.name}.lock"))]))
        except (OSError, NotImplementedError) as error:
            raise UserError(f"{KEY}: cannot write to {file.parent}: {getattr(error, 'strerror', error)}") from error

    on_main_process(take)
    while not any(comm.all_gather(bool(taken))):
        time.sleep(PAUSE)
        on_main_process(take)
    try:
        yield
    finally:
        for lock in taken:
            lock.release()


def _read(file: Path) -> dict[str, Any]:
    """Read a record.

    Raises:
        UserError: a record that is none.
    """
    try:
        record: dict[str, Any] = json.loads(record_of(file).read_text())
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{KEY}: {record_of(file)} is damaged: {REMEDY}") from error
    return record


def _write(file: Path, record: Mapping[str, Any]) -> None:
    write_text(record_of(file), json.dumps(record) + "\n")


def _add_seconds(file: Path, seconds: float) -> None:
    record = _read(file)
    _write(file, record | {"seconds": record["seconds"] + seconds})
