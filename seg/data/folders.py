"""Two folders, of images and of masks of the same names; or one of images alone."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path

from densedist.common.data.images import images_in
from densedist.common.errors import UserError
from densedist.seg.data.frames import Frame


def pairs(images: str, masks: str, key: str) -> list[Frame]:
    """A frame for each image, sorted by path; its mask has the same path in the other folder, but for the suffix.

    Args:
        images, masks: the folders; those below them are searched, too.
        key: the config key that names them, for messages.

    Raises:
        UserError: a missing folder, no image, an image without a mask, several masks of it, or several images of one.
    """
    there, theirs = _files(images, key), _files(masks, key)
    found = _by_name(theirs, "masks", "image", key)
    _by_name(there, "images", "mask", key)
    if lost := [file for stem, file in there if stem not in found]:
        raise UserError(
            f"{key}: {len(lost)} of {len(there)} images have no mask of the same name in {masks}, first {lost[0]}"
        )
    return [as_frame(file, found[stem]) for stem, file in there]


def alone(images: str, key: str) -> list[Frame]:
    """A frame for each image of a folder, sorted by path, without labels.

    Raises:
        UserError: no image.
    """
    return [as_frame(file, None) for _, file in _files(images, key)]


def _by_name(files: Sequence[tuple[str, Path]], several: str, one: str, key: str) -> dict[str, Path]:
    """The files by name, which are several of one where two have the same."""
    found: dict[str, Path] = {}
    for name, file in files:
        if name in found:
            raise UserError(f"{key}: there are two {several} {found[name]} and {file} of one {one}: want one")
        found[name] = file
    return found


def _files(folder: str, key: str) -> list[tuple[str, Path]]:
    """The image files of a folder, each with its path from there on, without a suffix.

    Of letters that Unicode writes in two ways, ä or a with two dots, systems choose one; here they are the same.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise UserError(f"{key}: there is no folder {root}")
    inner = ((file.relative_to(root).with_suffix("").as_posix(), file) for file in images_in(root))
    return [(unicodedata.normalize("NFC", name), file) for name, file in inner]


def as_frame(image: Path, mask: Path | None) -> Frame:
    """A frame of any image, whose mask has labelIds or the colors of classes."""
    return {"name": image.stem, "image": str(image), "label": str(mask) if mask else None, "colors": True}
