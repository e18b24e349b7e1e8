"""A look at the data of a config before training: whether it is sound, what it holds, and how it looks."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from detectron2.config import CfgNode

from densedist.common.data.flip_pairs import warn_of_sides
from densedist.common.data.headers import Header, read_header
from densedist.common.data.images import (
    DamagedError,
    check_file,
    check_image,
    check_images,
    evenly,
    warn_of_transparency,
)
from densedist.common.data.sides import LABELED
from densedist.common.data.survey import Survey
from densedist.common.errors import UserError, on_main_process
from densedist.common.report.panels import Panel, draw_in_lines
from densedist.seg.data.augmentations import mirrors
from densedist.seg.data.frames import SCORES, Frame
from densedist.seg.data.label_images import has_colors, occurring, read_colors, read_label, read_train_ids
from densedist.seg.data.palettes import refuse_renumbered
from densedist.seg.data.reading import Reader, count_pixels, turned
from densedist.seg.datasets import SIDES
from densedist.seg.drawing import (
    class_legend,
    paint,
    to_rgb,
)
from densedist.seg.labels import IGNORE, UNKNOWN, UNNAMED, Classes
from densedist.seg.losses import check_kept

logger = logging.getLogger(__name__)
IGNORED = "(ignored)"


def check_data(cfg: CfgNode, *sides: str) -> None:
    """Make sure that the frames of all sides of DATASETS, or of the given ones, are there and whole.

    All labels are read: numbers without a meaning are found here, and a class without a pixel is a warning.

    Raises:
        UserError: a missing frame or label, or, unless DATALOADER.CHECK_FILES is False, what is wrong in the files; a
            loss that the size of a crop undoes.
    """
    if not sides:  # before training
        check_kept(cfg)
    on_main_process(lambda: _check(cfg, sides or tuple(SIDES)))


def survey(cfg: CfgNode, side: str) -> Survey:
    """Count the images, their sizes and the pixels of each class on a side of DATASETS; all labels are read."""
    frames, classes = SIDES[side](cfg), Classes.of(cfg)
    read = Reader(classes, cfg.INPUT.FORMAT)
    sizes = Counter(read_header(frame["image"]).size for frame in frames)
    labeled = [frame for frame in frames if frame["label"]]
    total = count_pixels(read, labeled, side).sum(0)
    pixels = {name: int(total[number]) for number, name in enumerate(classes.names)} | {IGNORED: int(total[IGNORE])}
    return Survey(side, sizes, len(labeled), pixels, "pixels")


def draw_data(cfg: CfgNode, side: str, count: int, file: Path) -> None:
    """Draw so many images, spread evenly over a side of DATASETS, with their labels over them to a PNG."""
    classes = Classes.of(cfg)
    read, columns, ignored = Reader(classes, cfg.INPUT.FORMAT), [], False
    for frame in evenly(SIDES[side](cfg), count):
        sample = read(frame)
        image = to_rgb(sample["image"], cfg.INPUT.FORMAT)
        panels = [Panel(image, frame["name"])]
        if "sem_seg" in sample:
            labels = sample["sem_seg"].numpy()
            panels.append(Panel(paint(image, labels, classes.colors), "labels"))
            ignored = ignored or bool((labels == IGNORE).any())
        columns.append(panels)
    draw_in_lines(columns, class_legend(classes.names, classes.colors, ignored), f"DATASETS.{side}", file)


@dataclass(frozen=True)
class _Seen:
    """What a frame's files hold.

    Args:
        image: its header.
        label_ids: which of the labelIds 0 to 255 occur, bool (256,); for colors and trainIds those that stand for
            their classes.
        palette: the colors of the label's palette, (256, 3), if it is read by its indices.
        indices: which of these occur, bool (256,).
    """

    image: Header
    label_ids: np.ndarray
    palette: np.ndarray | None = None
    indices: np.ndarray | None = None


def _check(cfg: CfgNode, sides: Sequence[str]) -> None:
    classes = Classes.of(cfg)
    _warn_of_mirrors(cfg, classes, sides)
    for side in sides:
        frames, source = SIDES[side](cfg), f"DATASETS.{side}"
        if not cfg.DATALOADER.CHECK_FILES:
            continue
        how = [[key for key in ("colors", "train_ids") if frame.get(key)] for frame in frames]
        seen = check_images(frames, partial(_check_frame, classes), source, _files, f"{classes.meaning} {how}")
        warn_of_transparency({f["image"]: one.image for f, one in zip(frames, seen, strict=True)}, source)
        if any(frame["label"] for frame in frames):
            used = {f["label"]: (one.palette, one.indices) for f, one in zip(frames, seen, strict=True)}
            refuse_renumbered(classes, used, any(frame.get("train_ids") for frame in frames), source)
            _check_labels(classes, frames, [one.label_ids for one in seen], source)


def _warn_of_mirrors(cfg: CfgNode, classes: Classes, sides: Sequence[str]) -> None:
    pairs, node = cfg.INPUT.FLIP_PAIRS, cfg.INPUT
    trained = any(cfg.DATASETS[side] for side in LABELED if side in sides)
    if trained and node.RANDOM_FLIP != "none":
        warn_of_sides(pairs, classes.names, "INPUT.RANDOM_FLIP", "none")
    if trained and mirrors(cfg):
        warn_of_sides(pairs, classes.names, "INPUT.ALBUMENTATIONS", "transforms that mirror nothing")
    if cfg.TEST.FLIP and "TEST" in sides:
        warn_of_sides(pairs, classes.names, "TEST.FLIP", "False")


def _files(frame: Frame) -> list[str]:
    return [frame[kind] for kind in ("image", "label", SCORES) if frame.get(kind)]


def _check_frame(classes: Classes, frame: Frame) -> _Seen:
    image, none = check_image(frame["image"]), np.zeros(256, bool)
    if not frame["label"]:
        return _Seen(image, none)
    if why := turned(image):
        raise DamagedError(f"{frame['image']} {why}")
    label = check_file(frame["label"], image.size, "in its image")
    if SCORES in frame:
        check_file(frame[SCORES], image.size, "in its image")
    try:
        if frame.get("colors") and has_colors(label):
            return _Seen(image, _standing_for(classes, read_colors(frame["label"], classes)))
        numbers, palette = read_label(frame["label"])
        occur = occurring(numbers)
        if frame.get("train_ids"):
            return _Seen(image, _standing_for(classes, read_train_ids(frame["label"], classes)), palette, occur)
        return _Seen(image, occur, palette, occur)
    except UserError as error:
        raise DamagedError(str(error)) from error


def _standing_for(classes: Classes, train_ids: np.ndarray) -> np.ndarray:
    """Return which labelIds stand for the trainIds (H, W), bool (256,)."""
    seen, label_ids = occurring(train_ids), np.zeros(256, bool)
    label_ids[classes.label_ids[seen[: len(classes)]]] = True
    return label_ids


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
