"""Label images whose pixels are trainIds, as cityscapesscripts' createTrainIdLabelImgs writes them."""

import numpy as np

from densedist.common.data.label_images import read_label_ids
from densedist.common.errors import UserError
from densedist.seg.labels import IGNORE, Classes


def read_train_ids(path: str, classes: Classes) -> np.ndarray:
    """trainIds (H, W), uint8: 0 for the first of the classes and so on, IGNORE for what does not count.

    Raises:
        UserError: it cannot be read, or has a number beyond the classes.
    """
    train_ids = read_label_ids(path)
    if (unknown := (train_ids >= len(classes)) & (train_ids != IGNORE)).any():
        raise UserError(
            f"{path} holds trainIds {np.unique(train_ids[unknown]).tolist()}: want 0 to {len(classes) - 1}, by the "
            f"order of DATASETS.CLASSES, and {IGNORE} for what does not count"
        )
    return train_ids
