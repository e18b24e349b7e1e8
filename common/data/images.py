"""Image files: damaged ones found before training without decoding the data set, and those that a user names."""

import os
from collections.abc import Callable, Container, Sequence
from itertools import count
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import TypeVar

from PIL import Image
from tqdm import tqdm

from densedist.common.errors import UserError
from densedist.common.logging import on_terminal

Size = tuple[int, int]  # height, width
T = TypeVar("T")

THREADS = 16  # they wait for the disk most of the time
ORIENTATION = 0x0112  # EXIF tag; from 5 on the image is turned by a quarter
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
# How a whole file of this format ends.
ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}


class DamagedError(Exception):
    """Says what is wrong with one image file; its name comes first."""


def check_images(items: Sequence[T], check: Callable[[T], object], source: str) -> None:
    """check(item), which raises DamagedError, for all items in several threads.

    Args:
        source: where the items are named, for the message.

    Raises:
        UserError: how many are damaged, and what is wrong with the first.
    """

    def complaint(item: T) -> str | None:
        try:
            check(item)
        except DamagedError as error:
            return str(error)
        return None

    with ThreadPool(THREADS) as pool:
        results = pool.imap(complaint, items, chunksize=64)
        bar = tqdm(results, "checking images", len(items), leave=False, delay=2, disable=not on_terminal())
        found = [result for result in bar if result]
    if found:
        raise UserError(
            f"{source}: {len(found)} of {len(items)} images cannot be used, first {found[0]}; put them right or "
            "take them out, or set DATALOADER.CHECK_FILES to False to begin all the same"
        )


def check_image(path: str, wanted: Size | None = None, reference: str = "") -> Size:
    """Height and width of an image file as Detectron2 and OpenCV read it, from its header and its end.

    Damage in between is seen by the check sums that a PNG has, and not in other files.

    Args:
        wanted: the size that it must have, as `reference` says.

    Raises:
        DamagedError: a missing or empty file, none that holds an image, one that is cut off, another size.
    """
    try:
        if os.path.getsize(path) == 0:
            raise DamagedError(f"{path} is empty")
        with Image.open(path) as image:
            size = image.height, image.width
            # Looking for EXIF data may decode the whole image: not without a reason.
            if ("exif" in image.info or size != (wanted or size)) and _turned(image):
                size = image.width, image.height
            if not _ends(path, ENDS.get(image.format or "", b"")):
                image.load()  # valid files may end otherwise, so this decides
            elif image.format == "PNG":  # which Detectron2 takes for black where it is damaged
                with Image.open(path) as unread:
                    unread.verify()
    except FileNotFoundError as error:
        raise DamagedError(f"{path} does not exist") from error
    except Image.UnidentifiedImageError as error:
        raise DamagedError(f"{path} is no image") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DamagedError(f"{path} is damaged: {error}") from error
    if wanted and size != wanted:
        raise DamagedError(f"{path} is {size[1]}x{size[0]} pixels, but {wanted[1]}x{wanted[0]} {reference}")
    return size


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
        _decode(file)
        inner = file.relative_to(path) if path.is_dir() else Path(file.name)
        found[_unused(inner.with_suffix("").as_posix(), found)] = file
    return found


def _decode(file: Path) -> None:
    """Decode it once: what reads it later, Detectron2 or OpenCV, may take damaged parts for black ones."""
    try:
        check_image(str(file))
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


def _turned(image: Image.Image) -> bool:
    try:
        return image.getexif().get(ORIENTATION, 1) >= 5
    except Exception:  # Detectron2 and OpenCV take an image with unreadable EXIF data as it is
        return False


def _ends(path: str, wanted: bytes) -> bool:
    """Whether the file ends with the wanted bytes; zeros behind them are padding."""
    with open(path, "rb") as file:
        file.seek(max(os.path.getsize(path) - 4096, 0))
        return file.read().rstrip(b"\0").endswith(wanted)
