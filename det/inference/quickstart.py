"""The detection study of the quickstart: a Cascade Mask R-CNN teacher, a small Faster R-CNN student, their picture."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from detectron2.structures import Boxes, BoxMode, Instances
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread
from pycocotools.coco import COCO

from densedist.common.data import digits
from densedist.common.labeling import SCORE
from densedist.common.report.panels import show
from densedist.common.report.plots import draw_bars
from densedist.common.task import Demonstration
from densedist.det.drawing import judged

SHOWN = ("teacher", "student alone", "student, DIST")


def draw(models: Mapping[str, Mapping[str, float]], folders: Mapping[str, Path], file: Path, images: int = 4) -> None:
    """Draw AP as bars, and what the detectors of SHOWN see on test images.

    Args:
        models: for each row of the table its metrics in percent, the first two of which are drawn.
        folders: for each detector its OUTPUT_DIR, evaluated on the digits test split.
        file: the PNG to write.
        images: how many test images, from the first.
    """
    truth = COCO(str(digits.annotations("test")))
    figure = Figure(figsize=(9, 9.5), layout="constrained")
    grid = figure.add_gridspec(2, 1, height_ratios=[1, 2.6])
    top, below = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
    draw_bars(top.subplots(), models)
    below.suptitle(f"test images, boxes with score over {SCORE}: green right, red wrong, dashed missed")
    axes = below.subplots(len(SHOWN), images)
    for line, name in zip(axes, SHOWN, strict=True):
        seen = json.loads((folders[name] / "inference" / "coco_instances_results.json").read_text())
        line[0].set_ylabel(name)
        for axis, image in zip(line, sorted(truth.imgs)[:images], strict=True):
            boxes = [box for box in seen if box["image_id"] == image and box["score"] > SCORE]
            _draw_image(axis, truth, image, boxes)
    figure.savefig(file, dpi=75)


def _draw_image(axis: Axes, truth: COCO, image: int, boxes: Sequence[dict]) -> None:
    picture = digits.images("test") / truth.imgs[image]["file_name"]
    boxes_of, classes_of = _instances(truth.imgToAnns[image])
    objects = Instances((digits.SIZE, digits.SIZE), gt_boxes=boxes_of, gt_classes=classes_of)
    boxes_of, classes_of = _instances(boxes)
    scores = torch.tensor([box["score"] for box in boxes])
    found = Instances((digits.SIZE, digits.SIZE), pred_boxes=boxes_of, pred_classes=classes_of, scores=scores)
    show(axis, imread(picture))
    for marks in judged(found, objects, digits.CLASSES)[0]:
        marks.draw(axis)


def _instances(entries: Sequence[dict]) -> tuple[Boxes, torch.Tensor]:
    """Boxes and contiguous classes of entries in COCO form, whose categories are counted from 1."""
    boxes = torch.tensor([entry["bbox"] for entry in entries], dtype=torch.float32).reshape(-1, 4)
    classes = torch.tensor([entry["category_id"] - 1 for entry in entries], dtype=torch.int64)
    return Boxes(BoxMode.convert(boxes, BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)), classes


DEMONSTRATION = Demonstration(
    teacher="det/digits/cascade_mask_rcnn_r10t.yaml",
    student="det/digits/faster_rcnn_r10_quarter.yaml",
    # Chosen on digits_val, each among the values that the README lists.
    kd=("DISTILL.DIST.WEIGHT", "0.0", "DISTILL.KD.WEIGHT", "1.0", "DISTILL.KD.TAU", "10.0"),
    dist=("DISTILL.DIST.WEIGHT", "1.0", "DISTILL.DIST.TAU", "6.0"),
    unlabeled=("DATASETS.UNLABELED", "('digits_train',)"),
    test=("DATASETS.TEST", "('digits_test',)"),
    metrics=("AP", "AP50", "AP75"),
    draw=draw,
)
