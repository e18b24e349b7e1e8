"""What Pascal VOC's forms share: a folder of images, and lists that name those of a split."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from densedist.common.data.images import SUFFIXES
from densedist.common.data.text import read_text
from densedist.common.errors import UserError

IMAGES = "JPEGImages"


@dataclass(frozen=True)
class Listed:
    """An image that a list names.

    Args:
        name: without a suffix.
        image: its file; None if there is none.
        mask: a path that the list gives beside it, as written; None without one.
    """

    name: str
    image: Path | None
    mask: PurePosixPath | None = None


def images_listed(file: Path, folder: Path, tree: str) -> list[Listed]:
    """The images of a list, a line each: a name, perhaps with blanks or its suffix in it, or a path.

    Behind it may stand 1, 0 or -1, as in lists of one class, or the path of a mask, as in train_aug.txt.

    Args:
        folder: of the images.
        tree: what the folders should look like, for messages.

    Raises:
        UserError: there is no such list, no name in it, one that it has twice, or a path to another folder.
    """
    if not file.is_file():
        raise UserError(f"there is no {file}; {tree}")
    lines = [line.strip() for line in read_text(file).splitlines()]
    found = [_listed(line, file, folder) for line in lines if line]
    if not found:
        raise UserError(f"{file} names no image")
    if twins := [name for name, count in Counter(one.name for one in found).items() if count > 1]:
        raise UserError(f"{file} names {twins[0]} more than once, as {len(twins)} image(s): name each once")
    return found


def _listed(line: str, file: Path, folder: Path) -> Listed:
    words = line.split()
    if (image := _named(folder, line)) or (len(words) == 1 and "/" not in line):
        return Listed(_name(image, folder) if image else line, image)
    if words[-1] in ("-1", "0", "1"):  # of lists of one class
        return _listed(line[: -len(words[-1])].strip(), file, folder) if len(words) > 1 else Listed(line, None)
    first, mask = PurePosixPath(words[0]), PurePosixPath(words[1]) if len(words) == 2 else None
    if "/" in words[0] and first.parent.name != folder.name:
        raise UserError(f"{file} names {words[0]}, which is not in {folder}: want names of images there, one a line")
    image = _named(folder, first.name)
    if mask is not None and mask.stem != first.stem:
        raise UserError(f"{file} names the mask {mask} for the image {first}: want one of the same name")
    return Listed(_name(image, folder) if image else first.name, image, mask if mask and mask.suffix else None)


def _name(image: Path, folder: Path) -> str:
    return image.relative_to(folder).with_suffix("").as_posix()


def _named(folder: Path, name: str) -> Path | None:
    """The image of that name, which may have its suffix."""
    if name.startswith("/"):
        return None
    if found := file_named(folder, name):
        return found
    suffix = Path(name).suffix
    return file_named(folder, name.removesuffix(suffix), (suffix,)) if suffix.lower() in SUFFIXES else None


def file_named(folder: Path, name: str, suffixes: Sequence[str] = (".jpg", *SUFFIXES)) -> Path | None:
    """The file of that name with the first of the suffixes that there is, in small or capital letters; or None.

    Letters that Unicode writes in two ways, and systems in one of them, are the same.
    """
    names = dict.fromkeys([name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))])
    ends = dict.fromkeys(end for suffix in suffixes for end in (suffix, suffix.upper()))
    return next((file for one in names for end in ends if (file := folder / f"{one}{end}").is_file()), None)
