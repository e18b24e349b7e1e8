"""What Pascal VOC's formats have in common: a folder of images, and lists of the images of a split."""

import codecs
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from densedist.common.data.images import SUFFIXES, is_hidden
from densedist.common.errors import UserError
from densedist.common.nearest import did_you_mean_path

IMAGES = "JPEGImages"


@dataclass(frozen=True)
class Listed:
    """An image in a list.

    Args:
        name: without a suffix.
        image: its file; None if there is none.
        mask: the path of its mask in the list, as written; None without one.
    """

    name: str
    image: Path | None
    mask: PurePosixPath | None = None


class Named:
    """The images of a folder by name, whatever their suffix; each folder in it is listed once.

    Letters that Unicode writes in two ways, and systems in one of them, are the same.

    Args:
        root: the folder.
        suffixes: suffixes of files that count, in small or capital letters.
    """

    def __init__(self, root: Path, suffixes: Sequence[str] = SUFFIXES) -> None:
        self.root, self.suffixes = root, suffixes
        self._known: dict[Path, dict[str, list[Path]]] = {}

    def __call__(self, name: str) -> Path | None:
        """Find the file of a name, or of a path from the folder on, without a suffix; None if there is none.

        Raises:
            UserError: there are several.
        """
        path = self.root / name
        found = self._in(path.parent).get(unicodedata.normalize("NFC", path.name), [])
        if len(found) > 1:
            raise UserError(f"there are two files {found[0]} and {found[1]} with the same name: keep one")
        return found[0] if found else None

    def _in(self, folder: Path) -> dict[str, list[Path]]:
        if folder not in self._known:
            found = self._known[folder] = defaultdict(list)
            for file in sorted(folder.iterdir()) if folder.is_dir() else []:
                if file.suffix.lower() in self.suffixes and not is_hidden(Path(file.name)):
                    found[unicodedata.normalize("NFC", file.stem)].append(file)
        return self._known[folder]


def images_listed(file: Path, folder: Path, tree: str) -> list[Listed]:
    """Read a list's images, one a line: a name, perhaps with blanks or its suffix in it, or a path.

    Behind it may stand 1, 0 or -1, as in lists of one class, or the path of a mask, as in train_aug.txt.

    Args:
        folder: the folder of the images.
        tree: what the folders should look like, for messages.

    Raises:
        UserError: there is no such list, no name in it, one that it or the folder has twice, or a path to another
            folder.
    """
    if not file.is_file():
        raise UserError(f"there is no {file}; {tree}{did_you_mean_path(file)}")
    lines, named = [line.strip() for line in read_text(file).splitlines()], Named(folder)
    found = [_listed(line, file, named) for line in lines if line]
    if not found:
        raise UserError(f"{file} names no image")
    if twins := [name for name, count in Counter(one.name for one in found).items() if count > 1]:
        raise UserError(f"{file} names {twins[0]} more than once, as {len(twins)} image(s): name each once")
    return found


def _listed(line: str, file: Path, named: Named) -> Listed:
    words = line.split()
    if (image := _image(named, line)) or (len(words) == 1 and "/" not in line):
        return Listed(_name(image, named.root) if image else line, image)
    if words[-1] in ("-1", "0", "1"):  # of lists of one class
        return _listed(line[: -len(words[-1])].strip(), file, named) if len(words) > 1 else Listed(line, None)
    first, mask = PurePosixPath(words[0]), PurePosixPath(words[1]) if len(words) == 2 else None
    if "/" in words[0] and first.parent.name != named.root.name:
        raise UserError(
            f"{file} names {words[0]}, which is not in {named.root}: want names of images there, one a line"
        )
    image = _image(named, first.name)
    if mask is not None and mask.stem != first.stem:
        raise UserError(f"{file} names the mask {mask} for the image {first}: want one of the same name")
    return Listed(_name(image, named.root) if image else first.name, image, mask if mask and mask.suffix else None)


def _name(image: Path, folder: Path) -> str:
    return image.relative_to(folder).with_suffix("").as_posix()


def _image(named: Named, name: str) -> Path | None:
    """Find the image of a name, which may have its suffix."""
    if name.startswith("/"):
        return None
    if found := named(name):
        return found
    suffix = Path(name).suffix
    found = named(name.removesuffix(suffix)) if suffix.lower() in SUFFIXES else None
    return found if found and found.suffix == suffix else None


def read_text(file: Path) -> str:
    """Read a text file in UTF-8, or in UTF-16 if its byte order mark says so; without the mark.

    Bytes that mean nothing are replaced.
    """
    content = file.read_bytes()
    coding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    return content.decode(coding, errors="replace")
