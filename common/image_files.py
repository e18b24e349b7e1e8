"""Image files that a user names: found, looked at, named apart."""

from collections.abc import Container, Sequence
from itertools import count
from pathlib import Path

from PIL import Image

from common.errors import UserError
from common.images import DamagedError, look

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


def find_images(paths: Sequence[str], most: int | None = None) -> dict[str, Path]:
    """The image files among files and folders, by names that are all different, for what is written about each.

    A name has no suffix; that of a file in a folder is its path in there, and a second of the same name ends in -2.

    Args:
        paths: files, and folders that are searched with all that lie in them, in order of path.
        most: how many files, from the first; None = all.

    Raises:
        UserError: nothing is named, a folder has no image, or a file is missing, damaged or no image.
    """
    if not paths:
        raise UserError("no image is named: give files or folders")
    named = [(path, file) for path in map(Path, paths) for file in (_images_in(path) if path.is_dir() else [path])]
    found: dict[str, Path] = {}
    for path, file in named[:most]:
        _check(file)
        inner = file.relative_to(path) if path.is_dir() else Path(file.name)
        found[_unused(inner.with_suffix("").as_posix(), found)] = file
    return found


def _check(file: Path) -> None:
    """Decode it once: what reads it later, Detectron2 or OpenCV, may take damaged parts for black ones."""
    try:
        look(str(file))
        with Image.open(file) as image:
            image.load()
    except (DamagedError, OSError, SyntaxError, ValueError) as error:
        raise UserError(str(error) if isinstance(error, DamagedError) else f"{file} is damaged: {error}") from error


def _images_in(folder: Path) -> list[Path]:
    images = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    if not images:
        raise UserError(f"{folder} has no image: want files that end in {', '.join(SUFFIXES)}")
    return images


def _unused(name: str, taken: Container[str]) -> str:
    number = next(n for n in count(1) if (name if n == 1 else f"{name}-{n}") not in taken)
    return name if number == 1 else f"{name}-{number}"
