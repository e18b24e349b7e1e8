"""A look at the frames of a config before training, by one process for all."""

import logging
from collections.abc import Sequence
from functools import partial

import numpy as np
from detectron2.config import CfgNode

from densedist.common.data.images import DamagedError, check_file, check_image, check_images
from densedist.common.data.label_images import no_label, read_label_ids
from densedist.common.errors import UserError, on_main_process
from densedist.seg.data.color_labels import has_colors, read_colors
from densedist.seg.data.frames import Frame
from densedist.seg.data.reading import turned
from densedist.seg.data.sides import SIDES
from densedist.seg.data.train_id_labels import read_train_ids
from densedist.seg.labels import IGNORE, UNKNOWN, UNNAMED, Classes
from densedist.seg.losses import check_kept

logger = logging.getLogger(__name__)


def check_data(cfg: CfgNode, *sides: str) -> None:
    """Make sure that the frames of DATASETS.TRAIN, UNLABELED and TEST, or of the given sides, are there and whole.

    All labels are read: numbers without a meaning are found here, and a class without a pixel is a warning.

    Raises:
        UserError: a missing frame or label, or, unless DATALOADER.CHECK_FILES is False, what is wrong in the files; a
            loss that the size of a crop undoes.
    """
    if not sides:  # before training
        check_kept(cfg)
    on_main_process(lambda: _check(cfg, sides or tuple(SIDES)))


def _check(cfg: CfgNode, sides: Sequence[str]) -> None:
    classes = Classes.of(cfg)
    for side in sides:
        frames = SIDES[side](cfg)
        if cfg.DATALOADER.CHECK_FILES:
            label_ids = check_images(frames, partial(_check_frame, classes), f"DATASETS.{side}")
            if any(frame["label"] for frame in frames):
                _check_labels(classes, frames, label_ids, f"DATASETS.{side}")


def _check_frame(classes: Classes, frame: Frame) -> np.ndarray:
    """Which of the labelIds 0 to 255 occur, bool (256,); for colors and trainIds those that stand for their classes."""
    image, occur = check_image(frame["image"]), np.zeros(256, bool)
    if not frame["label"]:
        return occur
    if why := turned(image):
        raise DamagedError(f"{frame['image']} {why}")
    label = check_file(frame["label"], image.size, "in its image")
    colored = frame.get("colors") and has_colors(label)
    if not colored and (why := no_label(label)):
        raise DamagedError(f"{frame['label']} {why}")
    try:
        if not colored and not frame.get("train_ids"):
            occur[np.unique(read_label_ids(frame["label"]))] = True
            return occur
        seen = np.unique((read_colors if colored else read_train_ids)(frame["label"], classes))
        occur[classes.label_ids[seen[seen != IGNORE]]] = True
    except UserError as error:
        raise DamagedError(str(error)) from error
    return occur


def _check_labels(classes: Classes, frames: Sequence[Frame], label_ids: Sequence[np.ndarray], source: str) -> None:
    unknown = classes.train_ids == UNKNOWN
    if wrong := [number for number, occur in enumerate(label_ids) if (occur & unknown).any()]:
        ids = np.flatnonzero(np.any(label_ids, 0) & unknown).tolist()
        first = frames[wrong[0]]["label"]
        raise UserError(f"{source}: {len(wrong)} labels, first {first}, hold labelIds {ids}, {UNNAMED}")
    seen = set(classes.train_ids[np.any(label_ids, 0)].tolist()) - {IGNORE}
    if not seen:
        raise UserError(f"{source}: no pixel of its labels counts: all of their labelIds are in DATASETS.IGNORED_IDS")
    if bare := [name for number, name in enumerate(classes.names) if number not in seen]:
        logger.warning(f"{source}: no pixel of {', '.join(bare)}")
