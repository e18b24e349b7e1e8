"""The texts of the first configs: a DeepLabV3+ teaches a PSPNet, as in configs/seg/idd_lite."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from densedist.common.data.headers import Size, read_header
from densedist.common.data.images import evenly
from densedist.common.init.schedule import schedule
from densedist.common.init.splits import Sides, sides
from densedist.common.init.text import BASE, STUDENT, TEACHER, data_keys, inline, lines, solver, teach
from densedist.common.task import Beginning
from densedist.seg.data.frames import Frame
from densedist.seg.init.classes import Classes, find_classes
from densedist.seg.init.finding import Found, find

PASSES, LEAST_ITERATIONS = 30, 1000
LARGEST = {True: 512, False: 256}  # shortest edge that models see, with and without a GPU
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5)
CROP, SMALLEST = 0.75, 64  # a crop's share of an image, and its least edge
LOOKED_AT = 200  # images by which the size is chosen
FINE = "  LOGITS_STRIDE: 4  # the student's own logits have stride 16, too coarse for borders\n"


def first_configs(folder: Path, output: Path) -> Beginning:
    """Return configs for the data in a folder.

    Args:
        output: an absolute path; the runs get folders in it.

    Raises:
        UserError: no data is recognized, or masks that are none.
    """
    found = find(folder)
    frames = [frame for of_split in found.sets.values() for frame in of_split]
    classes = find_classes(folder, frames)
    counts = {split: len(of_split) for split, of_split in found.sets.items()}
    chosen = sides(found.names, counts)
    texts = {
        BASE: _base(folder, found, chosen, classes, _size(frames)),
        TEACHER: _teacher(output),
        STUDENT: _student(output),
    }
    files = frozenset(Path(frame[kind]) for frame in frames for kind in ("image", "label") if frame[kind])
    notes = [*found.notes, *([classes.note] if classes.note else [])]
    return Beginning(found.form, counts, [entry["name"] for entry in classes.classes], texts, files, notes)


def _base(folder: Path, found: Found, chosen: Sides, classes: Classes, size: Size) -> str:
    keys: dict[str, Any] = {**found.keys, "TRAIN": [chosen.train], "TEST": [chosen.test]}
    ignored = {"IGNORED_IDS": classes.ignored_ids, "IGNORED_COLORS": classes.ignored_colors}
    ignored = {key: value for key, value in ignored.items() if value}
    steps = schedule(chosen.images, PASSES, LEAST_ITERATIONS)
    largest = LARGEST[torch.cuda.is_available()]
    scale = round(min(1.0, largest / min(size)), 2)
    crop = [min(_multiple(CROP * scale * side), largest) for side in size]
    run = solver(steps, chosen.images, 0.001, "WarmupPolyLR", f"SCALES: [{scale}], ")
    return f"""\
# What teacher and student share on {folder.name}: data, sizes and schedule.
TASK: seg
DATASETS:  # {chosen.comment}
{data_keys(keys)}
  # ids: the numbers in the masks that mean the class; color: what it is drawn in, and what masks in color have.
  CLASSES:
{lines(classes.classes, 4)}
{_ignored(ignored)}\
# The images have {size[0]}x{size[1]} pixels (height x width). The models see them at {scale} of this size, set by
# INPUT.SCALES in training and by TEST.SCALES in evaluation: change both alike.
INPUT:
  CROP_SIZE: {crop}  # height and width of what a training step sees of an image
  SCALES: {[round(scale * factor, 3) for factor in SCALES]}
  RANDOM_FLIP: horizontal  # none, if a mirrored image means something else
MODEL:
  PIXEL_MEAN: [127.5, 127.5, 127.5]  # those of the encoders' ImageNet weights
  PIXEL_STD: [127.5, 127.5, 127.5]
{run}"""


def _ignored(keys: dict[str, Any]) -> str:
    if not keys:
        return '  # If a number in the masks means "no label": IGNORED_IDS: [255]; if a color does: IGNORED_COLORS.\n'
    return f'  # These mean "no label" in the masks.\n{data_keys(keys)}\n'


def _teacher(output: Path) -> str:
    return f"""\
# Teacher: DeepLabV3+ on EfficientNet-Lite2 with ImageNet weights: of the extra `pretrained`, or downloaded. On a GPU
# ENCODER.NAME may be a larger one of SMP or timm; MODEL.PIXEL_MEAN and PIXEL_STD are then what it was trained with.
_BASE_: {BASE}
MODEL:
  ARCHITECTURE: DeepLabV3Plus
  ENCODER: {{NAME: tu-tf_efficientnet_lite2, WEIGHTS: imagenet}}
OUTPUT_DIR: {inline(str(output / "teacher"))}
"""


def _student(output: Path) -> str:
    return f"""\
# Student: PSPNet on EfficientNet-Lite0 with ImageNet weights: of the extra `pretrained`, or downloaded.
_BASE_: {BASE}
MODEL:
  ARCHITECTURE: PSPNet
  ENCODER: {{NAME: tu-tf_efficientnet_lite0, WEIGHTS: imagenet, DEPTH: 4}}
  ARGS: {{psp_out_channels: 64}}
{teach(str(output / "teacher"), FINE)}OUTPUT_DIR: {inline(str(output / "student"))}
"""


def _size(frames: list[Frame]) -> Size:
    """Return the usual height and width of images."""
    sizes = [read_header(frame["image"]).size for frame in evenly(frames, LOOKED_AT)]
    height, width = np.median(sizes, axis=0).round().astype(int).tolist()
    return height, width


def _multiple(length: float) -> int:
    return max(SMALLEST, 16 * round(length / 16))
