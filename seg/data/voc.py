"""Pascal VOC's form: JPEGImages, SegmentationClass, ImageSets/Segmentation with a list for each split."""

from collections.abc import Sequence
from pathlib import Path

from densedist.common.data.voc_lists import IMAGES, file_named, names_listed
from densedist.common.errors import UserError
from densedist.seg.data.folders import as_frame
from densedist.seg.data.frames import LABEL_SUFFIXES, Frame

MASKS, LISTS = "SegmentationClass", "ImageSets/Segmentation"
TREE = f"want {IMAGES}/NAME.jpg, {MASKS}/NAME.png and {LISTS}/SPLIT.txt with a NAME a line"


def listed(where: Sequence[str], key: str, need_labels: bool) -> list[Frame]:
    """The frames of a split, in the order of its list.

    Args:
        where: a folder as VOCdevkit/VOC2012, a split, and perhaps the folder of masks in it, which is otherwise
            SegmentationClass: with the masks of SBD SegmentationClassAug.
        key: the config key that names it, for messages.
        need_labels: without them a split may have no mask at all, as VOC's test split.

    Raises:
        UserError: a missing list, an empty one, an image that is missing, or one without a mask.
    """
    folder, split, *more = where
    root, masks = Path(folder).expanduser(), more[0] if more else MASKS
    try:
        names = names_listed(root / LISTS / f"{split}.txt", TREE)
    except UserError as error:
        raise UserError(f"{key}: {error}") from error
    images = [file_named(root / IMAGES, name) for name in names]
    if lost := [name for name, image in zip(names, images, strict=True) if image is None]:
        raise UserError(f"{key}: {len(lost)} of {len(names)} images are missing, first {root / IMAGES / lost[0]}.jpg")
    labels = [file_named(root / masks, name, LABEL_SUFFIXES) for name in names]
    bare = [name for name, label in zip(names, labels, strict=True) if label is None]
    if bare and (need_labels or len(bare) < len(names)):
        raise UserError(f"{key}: {len(bare)} of {len(names)} images have no mask, first {root / masks / bare[0]}.png")
    return [as_frame(image, label) for image, label in zip(images, labels, strict=True) if image]
