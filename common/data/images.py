"""Image files: find those that a user names, and damaged ones before training, without decoding the data set."""

import logging
import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TypeVar

from PIL import Image
from tqdm import tqdm

from densedist.common.data.headers import Header, Size, UnknownTiffError, read_header
from densedist.common.data.known import Known, Stamps
from densedist.common.data.pace import each
from densedist.common.data.pixels import has_transparent_pixels
from densedist.common.errors import UserError
from densedist.common.logging import on_terminal
from densedist.common.nearest import did_you_mean_path

logger = logging.getLogger(__name__)
T = TypeVar("T")
R = TypeVar("R")

MANY = 1000  # items from which on what was found of them is remembered
SUFFIXES = (".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


def evenly(items: Sequence[T], count: int) -> list[T]:
    """Return so many of the items, or all, as far apart as can be: neighbors are often of one scene."""
    if count >= len(items):
        return list(items)
    return [items[(2 * n + 1) * len(items) // (2 * count)] for n in range(count)]


class DamagedError(Exception):
    """A damaged image file; the message begins with its name."""


def check_images(
    items: Sequence[T],
    check: Callable[[T], R],
    source: str,
    files: Callable[[T], Sequence[str]] | None = None,
    depends: str = "",
) -> list[R]:
    """Call check(item), which raises DamagedError and changes nothing, for all items, maybe in several processes.

    Args:
        source: where the items are named, for the message.
        files: returns the files that an item is made of: what check gives for it is remembered until one of them
            changes. None = nothing is remembered.
        depends: what else check depends on, as text.

    Returns:
        what check gives for each item.

    Raises:
        UserError: how many are damaged, and what is wrong with the first.
    """
    known: Known[R] | None = Known(depends, list(map(files, items))) if files and len(items) >= MANY else None

    def attempt(number: int) -> tuple[R | DamagedError, Stamps | None]:
        try:
            return known.look(number, lambda: check(items[number])) if known else (check(items[number]), None)
        except DamagedError as error:
            return error, None

    results = each(attempt, range(len(items)))
    seen: list[R | DamagedError] = []
    for result, stamps in tqdm(results, "checking images", len(items), leave=False, delay=2, disable=not on_terminal()):
        if known and stamps and not isinstance(result, DamagedError):
            known.learn(len(seen), result, stamps)
        seen.append(result)
    if known:
        known.keep()
    if found := [result for result in seen if isinstance(result, DamagedError)]:
        raise UserError(
            f"{source}: {len(found)} of {len(items)} images cannot be used, first {found[0]}; repair or "
            "remove them, or set DATALOADER.CHECK_FILES to False to train anyway"
        )
    return [result for result in seen if not isinstance(result, DamagedError)]


def check_image(path: str, wanted: Size | None = None, reference: str = "") -> Header:
    """Read the header of an image; refuse one that Detectron2 and OpenCV would not read as meant, with 8 bits.

    Args:
        wanted: the size that it must have, as `reference` says.

    Returns:
        its "alpha" is whether a pixel is transparent: an image that may have such pixels is decoded.

    Raises:
        DamagedError: as check_file; more than 8 bits a channel.
    """
    header = check_file(path, wanted, reference)
    if header.too_deep:
        raise DamagedError(
            f"{path} has {header.too_deep}: want 8 bits, as only you know which values are black and white: convert it"
        )
    try:
        return replace(header, alpha=has_transparent_pixels(path)) if header.alpha else header
    except (OSError, ValueError, SyntaxError) as error:
        raise DamagedError(f"{path} is damaged: {error}") from error


def warn_of_transparency(headers: Mapping[str, Header], source: str) -> None:
    """Warn of images with transparent pixels, given what check_image says of each path.

    Args:
        source: where the images are named.
    """
    if clear := [path for path, header in headers.items() if header.alpha]:
        logger.warning(
            f"{source}: {len(clear)} of {len(headers)} images have transparent pixels, first {clear[0]}: the colors "
            "that are stored there are read"
        )


def check_file(path: str, wanted: Size | None = None, reference: str = "") -> Header:
    """Read the header of a file of pixels; refuse one that its header and end show to be cut off.

    Damage in between is seen by the check sums that a PNG has, and not in other files.

    Args:
        wanted: the size that it must have, as `reference` says.

    Raises:
        DamagedError: a missing or empty file, none that holds an image, one that is cut off, several images in one or
            what else readers take differently, another size.
    """
    try:
        if os.path.getsize(path) == 0:
            raise DamagedError(f"{path} is empty")
        header = read_header(path)
        if header.strange:
            raise DamagedError(f"{path} {header.strange}")
        if not header.ends or header.format == "PNG":  # which Detectron2 takes for black where it is damaged
            with Image.open(path) as image:
                # Valid files may end otherwise, so decoding them decides.
                image.verify() if header.ends else image.load()
    except FileNotFoundError as error:
        raise DamagedError(f"{path} does not exist") from error
    except Image.UnidentifiedImageError as error:
        raise DamagedError(f"{path} is not an image") from error
    except UnknownTiffError as error:
        raise DamagedError(f"{path} cannot be read: {error}") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise DamagedError(f"{path} is damaged: {error}") from error
    size = header.size
    if wanted and size != wanted:
        raise DamagedError(f"{path} is {size[1]}x{size[0]} pixels, but {wanted[1]}x{wanted[0]} {reference}")
    return header


def find_images(paths: Sequence[str], most: int | None = None) -> dict[str, Path]:
    """Find the image files among files and folders, with names for what is written about each, all different.

    A name has no suffix; that of a file in a folder is its path in there, and a second of the same name ends in -2.
    Only headers are read: damage that shows when the pixels are read is for decode() to find, before they are.

    Args:
        paths: files, and folders that are searched with all that lie in them, in order of path.
        most: how many files, from the first; None = all.

    Raises:
        UserError: nothing is named, a folder has no image, or a file is missing, cut off or no image.
    """
    if not paths:
        raise UserError("no image is named: give files or folders")
    named = [(path, file) for path in map(Path, paths) for file in (images_in(path) if path.is_dir() else [path])]
    files = [file for _, file in named[:most]]
    seen = each(_refusal, files)
    for why in tqdm(seen, "looking at images", len(files), leave=False, delay=2, disable=not on_terminal()):
        if why:
            raise UserError(why)
    inner = [file.relative_to(path) if path.is_dir() else Path(file.name) for path, file in named[:most]]
    return dict(zip(unique_names([path.with_suffix("").as_posix() for path in inner]), files, strict=True))


def first_images(folder: Path, count: int) -> dict[str, Path]:
    """Find the first images of a folder as find_images does, and decode each.

    Raises:
        UserError: as find_images and decode.
    """
    found = find_images([str(folder)], count)
    for file in found.values():
        decode(file)
    return found


def _refusal(file: Path) -> str:
    """Return why an image cannot be used, by its header; "" if it can be."""
    if not file.exists():
        return f"{file} does not exist{did_you_mean_path(file)}"
    try:
        check_image(str(file))
    except DamagedError as error:
        return str(error)
    return ""


def unique_names(names: Sequence[str], taken: Collection[str] = ()) -> list[str]:
    """Return names that are all different, for what is written about each: a second "a" becomes "a-2".

    A name that is given once stays as it is.

    Args:
        taken: names of other files in the same folder, which none may have.
    """
    used, seen, result = {*names, *taken}, Counter(taken), []
    for name in names:
        new = next(other for n in count(2) if (other := f"{name}-{n}") not in used) if seen[name] else name
        seen[name] += 1
        used.add(new)
        result.append(new)
    return result


def decode(file: Path) -> None:
    """Decode an image once: what reads it later, Detectron2 or OpenCV, may take damaged parts for black ones.

    Raises:
        UserError: it is missing, damaged, no image, or would be read otherwise than it is meant.
    """
    try:
        check_image(str(file))
        with Image.open(file) as image:
            image.load()
    except (DamagedError, OSError, SyntaxError, ValueError) as error:
        raise UserError(str(error) if isinstance(error, DamagedError) else f"{file} is damaged: {error}") from error


def is_hidden(path: Path) -> bool:
    """Return whether a path in a data set's folder is put there by a system: ._NAME, .ipynb_checkpoints, @eaDir."""
    return any(part.startswith((".", "@eaDir", "__MACOSX")) for part in path.parts)


def images_in(folder: Path) -> list[Path]:
    """Return the image files in a folder and below it, in order of path, without those that are hidden.

    A link to nothing is among them: whoever reads it says so.

    Raises:
        UserError: there is none.
    """
    found, seen = [], set()
    for place, folders, names in os.walk(folder, followlinks=True):
        here, real = Path(place), os.path.realpath(place)
        # A link may lead back to where it lies.
        folders[:] = [] if real in seen else [name for name in folders if not is_hidden(Path(name))]
        found += [here / name for name in names if real not in seen and not is_hidden(Path(name))]
        seen.add(real)
    images = sorted(file for file in found if file.suffix.lower() in SUFFIXES)
    if not images:
        raise UserError(f"{folder} has no image: want files that end in {', '.join(SUFFIXES)}")
    return images
