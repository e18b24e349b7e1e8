"""Locks on folders that several processes may write; a lock ends with the process that holds it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

from filelock import BaseFileLock, FileLock, Timeout

from densedist.common.errors import UserError

LOCK = ".lock"  # the file in a folder that a process has for itself
OTHER = "name another folder"


def refuse_there(folder: Path, key: str) -> None:
    """Refuse a folder that is there, or anything else of its name.

    Args:
        key: what names the folder, for messages.

    Raises:
        UserError: it is.
    """
    if os.path.lexists(folder):
        raise UserError(f"{key}: {folder} already exists: name a new folder")


def refuse_files(folder: Path, key: str) -> None:
    """Refuse a folder in which there are files, but for the lock of claimed(); one that is not there has none.

    Args:
        key: what names the folder, for messages.

    Raises:
        UserError: there are.
    """
    if _has_files(folder):
        raise UserError(f"{key}: {folder} has files: name an empty or new folder")


def refuse_other_files(folder: Path, own: str, command: str) -> str:
    """Refuse a folder with files that a command did not write, some of which it would replace.

    Args:
        folder: of --output-dir.
        own: the name of the file by which an earlier output of the command is known.
        command: its name, for messages.

    Returns:
        what happens to an earlier output of the command, in words; "" where there is none.

    Raises:
        UserError: there are other files.
    """
    if not _has_files(folder):
        return ""
    if not (folder / own).is_file():
        why = f"{folder} has files, but no {own} of an earlier {command}"
        raise UserError(f"--output-dir: {why}: name an empty or new folder")
    return f"{folder}: files of the same names, which an earlier {command} wrote, are replaced"


def _has_files(folder: Path) -> bool:
    return folder.exists() and any(file.name != LOCK for file in folder.iterdir())


def refuse_unwritable(folder: Path, key: str) -> None:
    """Refuse a folder that this process cannot make or write to; nothing is made.

    Args:
        key: what names the folder, for messages.

    Raises:
        UserError: naming what is in the way.
    """
    place = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not place.is_dir():
        why = f"{place} is no folder"
    elif not os.access(place, os.W_OK | os.X_OK):
        why = f"{place} is write-protected"
    else:  # what is there already stays as it is, also for a moment: another process may look whether it has files
        why = "" if place == folder else _why_no_folder(place)
    if why:
        raise UserError(f"{key}: cannot {'write to' if place == folder else 'make'} {folder}: {why}: {OTHER}")


def _why_no_folder(place: Path) -> str:
    """Return why no folder can be made in a place; "" where one can: a superuser may write to /proc, and cannot."""
    try:
        os.rmdir(mkdtemp(dir=place))
    except OSError as error:
        return str(error.strerror)
    return ""


def try_lock(file: Path) -> BaseFileLock | None:
    """Take the lock of a file, whose folder is made if need be, until release() or the end of this process.

    Returns:
        None where another process, or another lock of this one, has it.

    Raises:
        OSError: the file cannot be written, or is where there are no locks.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    return lock


@contextmanager
def locked(file: Path, busy: str = "", key: str = "") -> Iterator[None]:
    """Hold the lock of a file, whose folder is made if need be, for a block.

    Args:
        busy: what to say where another process has it; "" = wait until it is free.
        key: what names the folder, for messages.

    Raises:
        UserError: busy, or a lock that cannot be had there.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file, thread_local=False)
        lock.acquire(timeout=0 if busy else -1)
    except Timeout as error:
        raise UserError(busy) from error
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{key}: cannot write to {file.parent}: {reason}".removeprefix(": ")) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def claimed(folder: Path, key: str) -> Iterator[None]:
    """Hold a folder that this process writes to, for a block; it is made if need be.

    The lock goes with the process, so one that was killed holds nothing. Where nothing was written, nothing stays.

    Args:
        key: what names the folder, for messages.

    Raises:
        UserError: another process writes to it, or it cannot be made.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{key}: cannot make {folder}: {error.strerror}: {OTHER}") from error
    busy = f"{key}: another process writes to {folder}: wait until it has ended, or {OTHER}"
    with locked(folder / LOCK, busy, key):
        try:
            yield
        finally:
            # Whoever has opened the file in the meantime finds that it is gone, and makes a new one.
            (folder / LOCK).unlink(missing_ok=True)
            with suppress(OSError):  # not empty
                for path in made:
                    path.rmdir()
