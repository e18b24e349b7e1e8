"""How many pixels of each class labels have."""

from collections.abc import Sequence

import numpy as np

from densedist.common.data.images import check_images
from densedist.seg.data.frames import Frame
from densedist.seg.data.reading import Reader


def count_pixels(read: Reader, frames: Sequence[Frame], source: str) -> np.ndarray:
    """(n, 256), int64: for each of n frames with labels the pixels of each trainId; those of IGNORE are in the last.

    Args:
        source: where the frames are named, for messages.

    Raises:
        UserError: a label that cannot be read.
    """
    counts = check_images(frames, lambda frame: np.bincount(read.labels(frame).ravel(), minlength=256), source)
    return np.stack(counts) if counts else np.zeros((0, 256), np.int64)
