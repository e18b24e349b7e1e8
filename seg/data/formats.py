"""The formats of data sets that segmentation reads beside Cityscapes': folders of masks, Pascal VOC, ADE20K."""

from collections.abc import Sequence
from pathlib import Path

from densedist.common.config.formats import Format
from densedist.seg.data import folders
from densedist.seg.data.frames import Frame


def _folders(where: Sequence[str], key: str, need_labels: bool) -> list[Frame]:
    return folders.pairs(where[0], where[1], key)


def _ade20k(where: Sequence[str], key: str, need_labels: bool) -> list[Frame]:
    folder, split = where
    images, masks = Path(folder, "images", split), Path(folder, "annotations", split)
    if need_labels or masks.expanduser().is_dir():
        return folders.pairs(str(images), str(masks), key)
    return folders.alone(str(images), key)


# By key of DATASETS. `read` is called with the items of an entry behind its name, the key for messages, and whether
# labels must be there, and returns the frames. It raises UserError for files that do not have the format.
FORMATS: dict[str, Format] = {
    "FOLDERS": Format(
        "[name, folder of images, folder of masks]",
        _folders,
        "Your data sets as folders, whose masks have labelIds, the indices of a palette, or the colors of CLASSES",
    ),
    "VOC_FORMAT": Format(
        "[name, folder, split], and perhaps a folder of masks after it",
        folders.listed,
        "Your data sets in Pascal VOC's format",
        (3, 4),
    ),
    "ADE20K_FORMAT": Format("[name, folder, split]", _ade20k, "Your data sets in ADE20K's format"),
}
