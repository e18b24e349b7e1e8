"""The quickstart of detection: a Cascade Mask R-CNN teacher, a small Faster R-CNN student, their picture."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from detectron2.structures import Boxes, BoxMode, Instances
from matplotlib.image import imread
from pycocotools.coco import COCO

from densedist.common.data import digits
from densedist.common.labeling import SCORE
from densedist.common.report.panels import Panel, draw_with_bars
from densedist.common.task import Demonstration
from densedist.det.drawing import draw_marks, judged

SHOWN = ("teacher", "student alone", "student, DIST")
IMAGES = 4  # of the test split, from the first


def draw(models: Mapping[str, Mapping[str, float]], folders: Mapping[str, Path], file: Path) -> None:
    """Draw AP as bars, and what the detectors of SHOWN find in test images.

    Args:
        models: for each row of the table its metrics in percent, the first two of which are drawn.
        folders: for each detector its OUTPUT_DIR, evaluated on the digits test split.
        file: the PNG to write.
    """
    truth = COCO(str(digits.annotations("test")))
    lines: dict[str, list[Panel]] = {}
    for name in SHOWN:
        found = json.loads((folders[name] / "inference" / "coco_instances_results.json").read_text())
        sure = [box for box in found if box["score"] > SCORE]
        lines[name] = [_panel(truth, image, sure) for image in sorted(truth.imgs)[:IMAGES]]
    draw_with_bars(models, lines, file, f"boxes with score over {SCORE}: green right, red wrong, dashed missed")


def _panel(truth: COCO, image: int, boxes: Sequence[dict]) -> Panel:
    """Judge the boxes of an image, in COCO's form."""
    size = digits.SIZE, digits.SIZE
    boxes_of, classes_of = _instances(truth.imgToAnns[image])
    objects = Instances(size, gt_boxes=boxes_of, gt_classes=classes_of)
    here = [box for box in boxes if box["image_id"] == image]
    boxes_of, classes_of = _instances(here)
    scores = torch.tensor([box["score"] for box in here])
    found = Instances(size, pred_boxes=boxes_of, pred_classes=classes_of, scores=scores)
    marks = judged(found, objects, digits.CLASSES)[0]
    return Panel(imread(digits.images("test") / truth.imgs[image]["file_name"]), "", over=partial(draw_marks, marks))


def _instances(entries: Sequence[dict]) -> tuple[Boxes, torch.Tensor]:
    """Return boxes and class numbers from 0 of entries in COCO's form, whose categories count from 1."""
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
