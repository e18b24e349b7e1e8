"""The images that a user names for labeling: files, folders, patterns and lists, none of which is opened here."""

import os
from collections.abc import Iterator, Mapping, Sequence
from glob import glob, has_magic
from pathlib import Path

from densedist.common.data.images import SUFFIXES, images_in, unique_names
from densedist.common.errors import UserError
from densedist.common.nearest import did_you_mean_path

LIST = ".txt"  # the suffix of a text file that names an image in each line
ARCHIVES = (".7z", ".gz", ".rar", ".tar", ".tgz", ".zip")


def list_images(words: Sequence[str]) -> Mapping[str, Path]:
    """List image files by name; only those that are named one by one are looked for.

    A name has no suffix. It is the path in the folder that is named, or in the folder that all images of a pattern or
    of a list have in common; a second of the same name ends in -2.

    Args:
        words: files; folders, with all that lies in them; patterns, as "photos/2024-*/*.jpg", with ** for any folders;
            text files with an image in each line. Paths of a list begin in its folder where the first of them is there,
            else in the current folder.

    Raises:
        UserError: a file or folder that is not there, an archive, a pattern or list without an image.
    """
    files: list[str] = []
    names: list[str] = []
    for word in words:
        folder, found = _of_word(word)
        files += found
        names += (os.path.splitext(os.path.relpath(file, folder) if folder else Path(file).name)[0] for file in found)
    return dict(zip(unique_names([name.replace(os.sep, "/") for name in names]), map(Path, files), strict=True))


def _of_word(word: str) -> tuple[str, list[str]]:
    """Return the images that a word names, and the folder in which their names begin; "" = the file's own."""
    place = Path(word)
    if place.is_dir():
        return word, [str(file) for file in images_in(place)]
    if place.suffix.lower() == LIST and place.is_file():
        return _common(found := list(_lines(place))), found
    if not place.exists() and has_magic(word):
        found = sorted(file for file in glob(word, recursive=True) if file.lower().endswith(SUFFIXES))
        if not found:
            raise UserError(f"no image is like {word}: want files that end in {', '.join(SUFFIXES)}")
        return _common(found), found
    if not place.exists():
        raise UserError(f"{word} does not exist{did_you_mean_path(word)}")
    if place.suffix.lower() in ARCHIVES:
        raise UserError(f"{word} is an archive: unpack it, and name the folder; a student is trained on files, too")
    return "", [word]


def _lines(file: Path) -> Iterator[str]:
    """Yield the paths of a list."""
    try:
        lines = [line for line in map(str.strip, file.read_text().splitlines()) if line]
    except ValueError as error:
        raise UserError(f"{file} is no text: want the path of an image in each line") from error
    if not lines:
        raise UserError(f"{file} names no image: want the path of one in each line")
    here = file.parent if (file.parent / lines[0]).exists() else Path()
    for line in lines:
        yield os.path.join(here, line)


def _common(files: Sequence[str]) -> str:
    """Return the folder that files have in common."""
    folders = [os.path.dirname(os.path.abspath(file)) for file in files]
    return os.path.commonpath(folders)
