"""Write files that exist whole or not at all, even if a process dies or a disk is full."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


def write_atomic(path: Path, write: Callable[[IO[bytes]], object], writer: str = "") -> None:
    """Call write(file) on a temporary file in path's folder, flush it to the disk, and move it to path.

    Args:
        writer: tells processes apart that may write the same file at a time. Without it, what a killed process leaves
            of a large file is overwritten by the next one.

    Raises:
        OSError: what prevented it; path is as it was, and the temporary file is gone.
    """
    temporary = path.with_name(f"{path.name}{writer}.tmp")
    with _removed_on_failure(temporary):
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    _sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a text file as write_atomic does; of several processes that write it, the last one wins."""
    write_atomic(path, lambda file: file.write(text.encode()), f".{os.getpid()}")


@contextmanager
def _removed_on_failure(file: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        file.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    """Make the new name itself survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
