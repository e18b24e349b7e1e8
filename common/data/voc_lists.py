"""What Pascal VOC's forms share: a folder of images, and lists that name those of a split."""

from collections.abc import Sequence
from pathlib import Path

from densedist.common.data.images import SUFFIXES
from densedist.common.errors import UserError

IMAGES = "JPEGImages"


def names_listed(file: Path, tree: str) -> list[str]:
    """The names in a list, the first word of each line; lists of one class have a second word, 1 or -1.

    Args:
        tree: what the folder should look like, for messages.

    Raises:
        UserError: there is no such list, or no name in it.
    """
    if not file.is_file():
        raise UserError(f"there is no {file}; {tree}")
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    names = [line.split()[0] for line in lines if line.strip()]
    if not names:
        raise UserError(f"{file} names no image")
    return names


def file_named(folder: Path, name: str, suffixes: Sequence[str] = (".jpg", *SUFFIXES)) -> Path | None:
    """The file of that name with the first of the suffixes that there is; None if there is none."""
    return next((file for suffix in suffixes if (file := folder / f"{name}{suffix}").is_file()), None)
