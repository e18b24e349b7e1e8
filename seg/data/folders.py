"""Two folders, of images and of masks of the same names; or one of images alone."""

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
        UserError: a missing folder, no image, an image without a mask, or several masks.
    """
    there, theirs = _files(images, key), _files(masks, key)
    found: dict[Path, Path] = {}
    for stem, file in theirs:
        if stem in found:
            raise UserError(f"{key}: there are two masks {found[stem]} and {file} of one image: want one")
        found[stem] = file
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


def _files(folder: str, key: str) -> list[tuple[Path, Path]]:
    """The image files of a folder, each with its path from there on, without a suffix."""
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise UserError(f"{key}: there is no folder {root}")
    return [(file.relative_to(root).with_suffix(""), file) for file in images_in(root)]


def as_frame(image: Path, mask: Path | None) -> Frame:
    """A frame of any image, whose mask has labelIds or the colors of classes."""
    return {"name": image.stem, "image": str(image), "label": str(mask) if mask else None, "colors": True}
