"""The detection study of tools/quickstart.py: a Cascade Mask R-CNN teacher, a small Faster R-CNN student."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from detectron2.modeling import build_model

from densedist.common.quickstart import Row, Task
from densedist.det.config import without_distillation
from densedist.det.quickstart import draw
from densedist.det.task import load_config, main

CONFIGS = Path(__file__).parents[1] / "configs" / "det" / "digits"


def _parameters(config: str, overrides: list[str]) -> int:
    model = build_model(without_distillation(load_config(config, overrides)))
    return sum(parameter.numel() for parameter in model.parameters())


def _draw(rows: Sequence[Row], folders: Mapping[str, Path], file: Path) -> None:
    shown = {name: folders[name] for name in ("teacher", "student alone", "student, DIST")}
    draw({row.name: row.metrics for row in rows}, shown, file)


TASK = Task(
    tool="tools/train_det.py",
    main=main,
    parameters=_parameters,
    teacher=CONFIGS / "cascade_mask_rcnn_r10t.yaml",
    student=CONFIGS / "faster_rcnn_r10_quarter.yaml",
    # Chosen on digits_val, each among the values that the README lists.
    kd=("DISTILL.DIST.WEIGHT", "0.0", "DISTILL.KD.WEIGHT", "1.0", "DISTILL.KD.TAU", "10.0"),
    dist=("DISTILL.DIST.WEIGHT", "1.0", "DISTILL.DIST.TAU", "6.0"),
    unlabeled=("DATASETS.UNLABELED", "('digits_train',)"),
    test=("DATASETS.TEST", "('digits_test',)"),
    results="bbox",
    metrics=("AP", "AP50", "AP75"),
    draw=_draw,
)


#### MERGED FROM det.quickstart_picture
"""The quickstart's picture: AP as bars, and what three detectors see on four test images."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch
from detectron2.structures import Boxes, BoxMode, Instances
from pycocotools.coco import COCO

from densedist.common import digits
from densedist.common.report.plots import draw_bars
from densedist.common.report.panels import show
from densedist.det.drawing import judged

SCORE = 0.5  # boxes below are not shown


def draw(models: Mapping[str, Mapping[str, float]], folders: Mapping[str, Path], file: Path, images: int = 4) -> None:
    """Draw the picture.

    Args:
        models: for each row of the table its metrics in percent, the first two of which are drawn.
        folders: for each detector shown its OUTPUT_DIR, evaluated on the digits test split.
        file: the PNG to write.
        images: how many test images, from the first.
    """
    truth = COCO(str(digits.annotations("test")))
    figure = plt.figure(figsize=(9, 9.5), layout="constrained")
    grid = figure.add_gridspec(2, 1, height_ratios=[1, 2.6])
    top, below = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
    draw_bars(top.subplots(), models)
    below.suptitle(f"test images, boxes with score over {SCORE}: green right, red wrong, dashed missed")
    axes = below.subplots(len(folders), images)
    for line, (name, folder) in zip(axes, folders.items(), strict=True):
        seen = json.loads((folder / "inference" / "coco_instances_results.json").read_text())
        line[0].set_ylabel(name)
        for axis, image in zip(line, sorted(truth.imgs)[:images], strict=True):
            boxes = [box for box in seen if box["image_id"] == image and box["score"] > SCORE]
            _draw_image(axis, truth, image, boxes)
    figure.savefig(file, dpi=75)
    plt.close(figure)


def _draw_image(axis: plt.Axes, truth: COCO, image: int, boxes: Sequence[dict]) -> None:
    picture = digits.images("test") / truth.imgs[image]["file_name"]
    boxes_of, classes_of = _instances(truth.imgToAnns[image])
    objects = Instances((digits.SIZE, digits.SIZE), gt_boxes=boxes_of, gt_classes=classes_of)
    boxes_of, classes_of = _instances(boxes)
    scores = torch.tensor([box["score"] for box in boxes])
    found = Instances((digits.SIZE, digits.SIZE), pred_boxes=boxes_of, pred_classes=classes_of, scores=scores)
    show(axis, plt.imread(picture))
    for marks in judged(found, objects, digits.CLASSES)[0]:
        marks.draw(axis)


def _instances(entries: Sequence[dict]) -> tuple[Boxes, torch.Tensor]:
    """Boxes and contiguous classes of entries in COCO form, whose categories are counted from 1."""
    boxes = torch.tensor([entry["bbox"] for entry in entries], dtype=torch.float32).reshape(-1, 4)
    classes = torch.tensor([entry["category_id"] - 1 for entry in entries], dtype=torch.int64)
    return Boxes(BoxMode.convert(boxes, BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)), classes
