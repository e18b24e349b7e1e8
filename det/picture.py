"""The quickstart's picture: AP as bars, and what three detectors see on four test images."""

import json
from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.patches import Rectangle
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from common import digits
from common.bars import draw_bars

SCORE = 0.5  # boxes below are not shown
HIT, MISS = "#4ade80", "#f87171"


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
    below.suptitle(f"test images, boxes with score over {SCORE}: green right, red wrong")
    axes = below.subplots(len(folders), images)
    for line, (name, folder) in zip(axes, folders.items(), strict=True):
        seen = json.loads((folder / "inference" / "coco_instances_results.json").read_text())
        line[0].set_ylabel(name)
        for axis, image in zip(line, sorted(truth.imgs)[:images], strict=True):
            boxes = [box for box in seen if box["image_id"] == image and box["score"] > SCORE]
            _draw_image(axis, truth, image, boxes)
    figure.savefig(file, dpi=75)
    plt.close(figure)


def _draw_image(axis: plt.Axes, truth: COCO, image: int, boxes: list[dict]) -> None:
    picture = plt.imread(digits.images("test") / truth.imgs[image]["file_name"])
    axis.imshow(picture)
    axis.set_xticks([])
    axis.set_yticks([])
    objects = truth.imgToAnns[image]
    for box in boxes:
        x, y, width, height = box["bbox"]
        colour = HIT if _is_right(box, objects) else MISS
        axis.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=colour, linewidth=1.6))
        label = digits.CLASSES[box["category_id"] - 1]
        style = {"facecolor": colour, "edgecolor": "none", "pad": 1}
        axis.text(x, y, label, fontsize=8, va="bottom", bbox=style, clip_on=True)


def _is_right(box: dict, objects: list[dict]) -> bool:
    """Whether an object of the same class overlaps by half."""
    same = [o["bbox"] for o in objects if o["category_id"] == box["category_id"]]
    if not same:
        return False
    return bool((coco_mask.iou([box["bbox"]], same, [0] * len(same)) >= 0.5).any())
