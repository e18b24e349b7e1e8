"""Pascal VOC's form: JPEGImages, SegmentationClass, ImageSets/Segmentation with a list for each split."""

from collections.abc import Sequence
from pathlib import Path

from densedist.common.data.voc_lists import IMAGES, Named, images_listed
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
            f"{key}: {split}.txt names masks in {other[0].parent.name}, and they are read from {masks}: name the "
            "folder of masks behind the split"
        )
    bare = [one.name for one, label in zip(found, labels, strict=True) if label is None]
    if bare and (need_labels or len(bare) < len(found)):
        raise UserError(f"{key}: {len(bare)} of {len(found)} images have no mask, first {root / masks / bare[0]}.png")
    return [as_frame(one.image, label) for one, label in zip(found, labels, strict=True) if one.image]
