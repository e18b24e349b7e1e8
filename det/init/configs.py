"""The texts of the first configs: a Cascade R-CNN teaches a Faster R-CNN, as in configs/det/vehicles."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from densedist.common.errors import UserError
from densedist.common.init.schedule import schedule
from densedist.common.init.splits import Sides, sides
from densedist.common.init.text import BASE, STUDENT, TEACHER, data_keys, inline, solver, teach
from densedist.common.task import Beginning
from densedist.det.data.registering import is_built_in
from densedist.det.init.finding import DataSet, Found, find

PASSES, LEAST_ITERATIONS = 12, 500
LARGEST, SMALLEST = {True: 640, False: 320}, 96  # shortest edge of images, with and without a GPU
TRAINED = (0.75, 0.875, 1.0, 1.125)  # shares of it that training draws from
LEVELS = 4  # maps that anchors lie on


def first_configs(folder: Path, output: Path) -> Beginning:
    """Return configs for the data in a folder.

    Args:
        output: an absolute path; the runs get folders in it.

    Raises:
        UserError: no data is recognized, or it has no objects.
    """
    found = find(folder)
    names = {split: _name(folder.name, split) for split in found.sets}
    counts = {split: len(one.coco.images) for split, one in found.sets.items()}
    chosen = sides(names, counts)
    classes = next(iter(found.sets.values())).coco.names
    files = frozenset(chain.from_iterable(one.files for one in found.sets.values()))
    texts = {
        BASE: _base(folder, found, names, chosen, classes),
        TEACHER: _teacher(output),
        STUDENT: _student(output),
    }
    return Beginning(found.form, counts, classes, texts, files, found.notes)


def _name(folder: str, split: str) -> str:
    """Return a data set's name, as photos_train, which none of Detectron2's own has."""
    name = "".join(c if c.isalnum() else "_" for c in f"{folder}_{split}")
    return f"my_{name}" if is_built_in(name) else name


def _base(folder: Path, found: Found, names: dict[str, str], chosen: Sides, classes: Sequence[str]) -> str:
    entries = [[names[split], *one.where] for split, one in found.sets.items()]
    data = data_keys({found.key: entries, "TRAIN": [chosen.train], "TEST": [chosen.test], "CLASSES": list(classes)})
    first = next(iter(found.sets.values()))
    size = _size(first)
    trained = [_multiple(size * share, 8) for share in TRAINED]
    steps = schedule(chosen.images, PASSES, LEAST_ITERATIONS)
    return f"""\
# What teacher and student share on {folder.name}: data, sizes and schedule.
TASK: det
DATASETS:  # {chosen.comment}
{data}
INPUT:
  FORMAT: RGB
  # The shortest edge: larger images show smaller objects, and take longer.
  MIN_SIZE_TRAIN: {trained}
  MIN_SIZE_TEST: {size}
  MAX_SIZE_TRAIN: {2 * trained[-1]}
  MAX_SIZE_TEST: {2 * size}
  RANDOM_FLIP: horizontal  # none, if a mirrored object is another one
MODEL:
  MASK_ON: false  # boxes alone
  PIXEL_MEAN: [127.5, 127.5, 127.5]  # those of the backbones' ImageNet weights
  PIXEL_STD: [127.5, 127.5, 127.5]
  BACKBONE: {{NAME: build_timm_fpn_backbone}}
  FPN: {{IN_FEATURES: [res3, res4, res5]}}
  ANCHOR_GENERATOR:
    SIZES: {_anchors(first, size)}  # of the objects, in pixels of images of MIN_SIZE_TEST
    ASPECT_RATIOS: [[0.5, 1.0, 2.0]]
  PROPOSAL_GENERATOR: {{NAME: RPN}}
  RPN:
    IN_FEATURES: [p3, p4, p5, p6]
    PRE_NMS_TOPK_TRAIN: 300
    PRE_NMS_TOPK_TEST: 200
    POST_NMS_TOPK_TRAIN: 200
    POST_NMS_TOPK_TEST: 100
    BATCH_SIZE_PER_IMAGE: 128
  ROI_HEADS:
    IN_FEATURES: [p3, p4, p5]
    NUM_CLASSES: {len(classes)}
    BATCH_SIZE_PER_IMAGE: 64
  ROI_BOX_HEAD: {{NAME: FastRCNNConvFCHead, POOLER_RESOLUTION: 7, POOLER_SAMPLING_RATIO: 1}}
{solver(steps, chosen.images, 0.0005, "WarmupCosineLR")}"""


def _teacher(output: Path) -> str:
    return f"""\
# Teacher: Cascade R-CNN on EfficientNet-Lite2 with ImageNet weights: of the extra `pretrained`, or downloaded. On a GPU
# TIMM.NAME may be a larger model of timm; MODEL.PIXEL_MEAN and PIXEL_STD are then what its weights were trained with.
_BASE_: {BASE}
MODEL:
  META_ARCHITECTURE: GeneralizedRCNN
  TIMM: {{NAME: tf_efficientnet_lite2, PRETRAINED: true, NORM: BN}}
  FPN: {{OUT_CHANNELS: 128}}
  ROI_HEADS: {{NAME: CascadeROIHeads}}
  ROI_BOX_HEAD: {{NUM_FC: 2, FC_DIM: 512, CLS_AGNOSTIC_BBOX_REG: true}}
OUTPUT_DIR: {inline(str(output / "teacher"))}
"""


def _student(output: Path) -> str:
    return f"""\
# Student: Faster R-CNN on EfficientNet-Lite0 with ImageNet weights: of the extra `pretrained`, or downloaded.
_BASE_: {BASE}
MODEL:
  META_ARCHITECTURE: DistillRCNN
  TIMM: {{NAME: tf_efficientnet_lite0, PRETRAINED: true, NORM: BN}}
  FPN: {{OUT_CHANNELS: 48}}
  ROI_HEADS: {{NAME: StandardROIHeads}}
  ROI_BOX_HEAD: {{NUM_FC: 1, FC_DIM: 128}}
{teach(str(output / "teacher"))}OUTPUT_DIR: {inline(str(output / "student"))}
"""


def _size(found: DataSet) -> int:
    """Return the shortest edge that images get: the usual one, within what can be trained."""
    edges = [min(image["height"], image["width"]) for image in found.coco.images]
    usual = _multiple(float(np.median(edges)), 32)
    return min(max(usual, SMALLEST), LARGEST[torch.cuda.is_available()])


def _anchors(found: DataSet, size: int) -> list[list[int]]:
    """Return a size of anchors for each map: from small to large objects, at equal ratios."""
    edges = {image["id"]: min(image["height"], image["width"]) for image in found.coco.images}
    objects = [a for a in found.coco.objects if min(a["bbox"][2:]) > 0]
    if not objects:
        raise UserError(f"{found.where[0]} has no object to learn from: annotate some")
    sides = [size / edges[a["image_id"]] * (a["bbox"][2] * a["bbox"][3]) ** 0.5 for a in objects]
    small, large = np.quantile(sides, [0.1, 0.9]).tolist()
    least = min(max(small, 16.0), size / 4)
    most = min(max(large, 4 * least), float(size))
    return [[round(side)] for side in np.geomspace(least, most, LEVELS).tolist()]


def _multiple(length: float, of: int) -> int:
    return max(of, of * round(length / of))
