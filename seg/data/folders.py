"""Two folders, of images and of masks of the same names; or one of images alone."""

import unicodedata
from collections.abc import Collection, Sequence
from pathlib import Path

from densedist.common.data.images import images_in
from densedist.common.data.voc_lists import IMAGES, Named, images_listed
from densedist.common.errors import UserError
from densedist.common.nearest import did_you_mean_path
from densedist.seg.data.frames import LABEL_SUFFIXES, Frame

MASKS, LISTS = "SegmentationClass", "ImageSets/Segmentation"
MASK_ENDS = ("_mask", "_label", "_labels", "_gt", "_L")  # of masks NAME_mask that lie with their images NAME
TREE = f"want {IMAGES}/NAME.jpg, {MASKS}/NAME.png and {LISTS}/SPLIT.txt with a NAME a line"


def pairs(images: str, masks: str, key: str) -> list[Frame]:
    """List a frame for each image, sorted by path; its mask has the same path in the other folder, but for the suffix.

    Args:
        images, masks: the folders; those below them are searched, too.
        key: the config key that names them, for messages.

    Raises:
        UserError: a missing folder, no image, an image without a mask, several masks of it, several images of one, or
            one folder for both.
    """
    root = Path(images).expanduser()
    if root.is_dir() and root.resolve() == Path(masks).expanduser().resolve():
        names = [name for name, _ in _files(images, key)]
        if not (end := mask_end(names)) and len(set(names)) == len(names):
            raise UserError(f"{key}: {root} is named for the images and for the masks: name the folder of the masks")
        raise UserError(f"{key}: {in_one_folder(root, end)}, and name it")
    there, theirs = _files(images, key), _files(masks, key)
    found = _by_name(theirs, "masks", "image", key)
    _by_name(there, "images", "mask", key)
    if lost := [file for stem, file in there if stem not in found]:
        raise UserError(
            f"{key}: {len(lost)} of {len(there)} images have no mask of the same name in {masks}, first {lost[0]}"
        )
    return [as_frame(file, found[stem]) for stem, file in there]


def listed(where: Sequence[str], key: str, need_labels: bool) -> list[Frame]:
    """List the frames of a split of VOC's format, in the order of its list.

    Args:
        where: a folder as VOCdevkit/VOC2012, a split, and perhaps the folder of masks in it, which is otherwise
            SegmentationClass: with the masks of SBD SegmentationClassAug.
        key: the config key that names it, for messages.
        need_labels: without them a split may have no mask at all, as VOC's test split.

    Raises:
        UserError: a missing list, one that is empty or names other folders or an image twice, an image that is
            missing or there twice, or one without a mask.
    """
    folder, split, *more = where
    root, masks = Path(folder).expanduser(), more[0] if more else MASKS
    try:
        found = images_listed(root / LISTS / f"{split}.txt", root / IMAGES, TREE)
        mask_of = Named(root / masks, LABEL_SUFFIXES)
        labels = [mask_of(one.name) for one in found]
    except UserError as error:
        raise UserError(f"{key}: {error}") from error
    if lost := [one.name for one in found if one.image is None]:
        raise UserError(f"{key}: {len(lost)} of {len(found)} images are missing, first {root / IMAGES / lost[0]}.jpg")
    if other := [one.mask for one in found if one.mask and one.mask.parent.name != Path(masks).name]:
        raise UserError(
            f"{key}: {split}.txt names masks in {other[0].parent.name}, but they are read from {masks}: name the "
            "folder of masks after the split"
        )
    bare = [one.name for one, label in zip(found, labels, strict=True) if label is None]
    if bare and (need_labels or len(bare) < len(found)):
        raise UserError(f"{key}: {len(bare)} of {len(found)} images have no mask, first {root / masks / bare[0]}.png")
    return [as_frame(one.image, label) for one, label in zip(found, labels, strict=True) if one.image]


def alone(images: str, key: str) -> list[Frame]:
    """List a frame for each image of a folder, sorted by path, without labels.

    Raises:
        UserError: no image.
    """
    return [as_frame(file, None) for _, file in _files(images, key)]


def as_frame(image: Path, mask: Path | None) -> Frame:
    """Return a frame of any image, whose mask has labelIds or the colors of classes."""
    return {"name": image.stem, "image": str(image), "label": str(mask) if mask else None, "colors": True}


def mask_end(names: Collection[str]) -> str:
    """Return what the names of masks end in that lie with their images; "" where none does."""
    ends = (end for end in MASK_ENDS for name in names if name.endswith(end) and name.removesuffix(end) in names)
    return next(ends, "")


def in_one_folder(folder: Path, end: str = "") -> str:
    """Return what to do about masks that lie with their images.

    Args:
        end: what their names end in, beside those of the images; "" = nothing.
    """
    if end:
        said = f"{folder} has images and masks NAME{end} in one folder: move the masks to {folder}_masks, with the "
        return f"{said}names of their images"
    return f"{folder} has images and masks in one folder: move the masks to a folder of their own, {folder}_masks"


def _by_name(files: Sequence[tuple[str, Path]], several: str, one: str, key: str) -> dict[str, Path]:
    """Return the files by name; two of one name are refused."""
    found: dict[str, Path] = {}
    for name, file in files:
        if name in found:
            raise UserError(f"{key}: there are two {several} {found[name]} and {file} of one {one}: want one")
        found[name] = file
    return found


def _files(folder: str, key: str) -> list[tuple[str, Path]]:
    """List the image files of a folder, each with its path from there on, without a suffix.

    Of letters that Unicode writes in two ways, ä or a with two dots, systems choose one; here they are the same.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise UserError(f"{key}: there is no folder {root}{did_you_mean_path(root)}")
    inner = ((file.relative_to(root).with_suffix("").as_posix(), file) for file in images_in(root))
    return [(unicodedata.normalize("NFC", name), file) for name, file in inner]
