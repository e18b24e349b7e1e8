"""Boxes on images: which are right, wrong and missed, and how they are drawn."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from detectron2.structures import Boxes, Instances, pairwise_ioa, pairwise_iou
from detectron2.utils.visualizer import Visualizer
from matplotlib.axes import Axes
from matplotlib.colors import hsv_to_rgb
from matplotlib.patches import Patch, Rectangle
from torch import Tensor

# Easy to tell apart for color-blind readers, too: as seg/init/palette.py sees them, no two are nearer than 39.
RIGHT, WRONG, MISSED, PLAIN = "#2dd4bf", "#e4572e", "#f7e21b", "#8b8cf8"
IOU = 0.5  # a box has found an object from this overlap on
TOP = 0.12  # of a picture's height: the text of a box that begins there stands in the box
MOST, LEAST = 3, 10  # boxes of a model that are drawn: so many for each object, but these at least
SIDE = 640  # pixels of a picture's shorter side, at least: labels on a smaller one could not be read


def match(found: Instances, objects: Instances) -> tuple[Tensor, Tensor]:
    """Match predictions to objects of the same class, one to one, the highest score first, as COCO does.

    Args:
        found: N predictions, with pred_boxes, pred_classes, scores.
        objects: M objects, with gt_boxes, gt_classes.

    Returns:
        bool (N,): the prediction is right; bool (M,): the object was found.
    """
    same = found.pred_classes[:, None] == objects.gt_classes
    overlaps = pairwise_iou(found.pred_boxes, objects.gt_boxes).where(same, 0.0)
    right, hit = torch.zeros(len(found), dtype=torch.bool), torch.zeros(len(objects), dtype=torch.bool)
    for number in found.scores.argsort(descending=True, stable=True).tolist() if len(objects) else []:
        overlap, best = overlaps[number].where(~hit, 0.0).max(0)
        if overlap >= IOU:
            right[number] = hit[best] = True
    return right, hit


def on_crowds(found: Instances, crowds: Instances | None) -> Tensor:
    """Return which predictions lie, by half of their area, on a crowd of their class: bool (N,), as in COCO."""
    if crowds is None or not len(crowds):
        return torch.zeros(len(found), dtype=torch.bool)
    same = crowds.gt_classes[:, None] == found.pred_classes
    return (pairwise_ioa(crowds.gt_boxes, found.pred_boxes).where(same, 0.0) >= IOU).any(0)


def best_score(found: Sequence[Instances], objects: Sequence[Instances]) -> float | None:
    """Return the score from which on predictions on all images together have the best F1; None if none is right.

    Args:
        found, objects: of each image, as match() takes them.
    """
    # Whether a prediction is right depends on those with higher scores alone: matching once is enough.
    right = torch.cat([match(*image)[0] for image in zip(found, objects, strict=True)])
    scores, order = torch.cat([image.scores for image in found]).sort(descending=True)
    if not right.any():
        return None
    kept = torch.arange(1, len(scores) + 1)
    f1 = 2 * right[order].cumsum(0) / (kept + sum(map(len, objects)))
    return float(scores[f1.argmax()])


@dataclass(frozen=True)
class Marks:
    """Boxes of one kind to draw over an image: their color, a text for each, dashed or not."""

    boxes: Boxes
    texts: Sequence[str]
    color: str
    dashed: bool = False

    def draw(self, axis: Axes) -> None:
        """Draw them on an axis that shows the image."""
        (left, end), (low, high) = axis.get_xlim(), axis.get_ylim()
        for (x, y, right, bottom), text in zip(self.boxes.tensor.tolist(), self.texts, strict=True):
            line = "--" if self.dashed else "-"
            axis.add_patch(Rectangle((x, y), right - x, bottom - y, fill=False, ec=self.color, lw=1.6, ls=line))
            label = {"facecolor": self.color, "edgecolor": "none", "pad": 1, "alpha": 0.85}
            # Towards the middle of the picture, whose edge would cut it off.
            is_left, is_top = x - left < (end - left) / 2, y - high < TOP * abs(low - high)
            place: dict[str, Any] = {
                "ha": "left" if is_left else "right",
                "va": "top" if is_top else "bottom",
                "clip_on": True,
            }
            axis.text(max(x, left) if is_left else min(right, end), max(y, high), text, fontsize=7, bbox=label, **place)


def draw_marks(marks: Sequence[Marks], axis: Axes) -> None:
    """Draw marks on an axis that shows their image."""
    for mark in marks:
        mark.draw(axis)


def judged(found: Instances, objects: Instances, names: Sequence[str]) -> tuple[list[Marks], str]:
    """Mark right and wrong predictions and missed objects, and say how many there are of each.

    Of many predictions only the surest are marked: an image would be hidden behind those of a weak detector.
    """
    right, hit = match(found, objects)
    missed = replace(labeled(objects[~hit], names), color=MISSED, dashed=True)
    counts = f"{int(right.sum())} right, {int((~right).sum())} wrong, {int((~hit).sum())} missed"
    most = max(MOST * len(objects), LEAST)
    if len(found) > most:
        counts += f"\n(drawn: the {most} surest boxes)"
        surest = found.scores.argsort(descending=True, stable=True)[:most]
        found, right = found[surest], right[surest]
    return [missed, predicted(found[~right], names, WRONG), predicted(found[right], names, RIGHT)], counts


def labeled(objects: Instances, names: Sequence[str]) -> Marks:
    """Mark objects, with gt_boxes and gt_classes."""
    return Marks(objects.gt_boxes, [names[number] for number in objects.gt_classes.tolist()], PLAIN)


def predicted(found: Instances, names: Sequence[str], color: str = PLAIN) -> Marks:
    """Mark predictions with class and score."""
    pairs = zip(found.pred_classes.tolist(), found.scores.tolist(), strict=True)
    return Marks(found.pred_boxes, [f"{names[number]} {score:.0%}" for number, score in pairs], color)


def legend(reference: str) -> list[Patch]:
    """Return the legend's entries for what judged() gives, and for what predictions are judged by."""
    kinds = {reference: PLAIN, "right": RIGHT, "wrong": WRONG}
    solid = [Patch(fill=False, ec=color, lw=2, label=kind) for kind, color in kinds.items()]
    return [*solid, Patch(fill=False, ec=MISSED, lw=2, ls="--", label="missed")]


def draw_instances(image: np.ndarray, found: Instances, names: Sequence[str]) -> np.ndarray:
    """Draw predictions on an image (H, W, 3) of uint8 by Detectron2's Visualizer; a small one is enlarged.

    Boxes, classes, scores and, where there are any, masks and keypoints; each class in a color of its own.
    """
    canvas = Visualizer(image, scale=max(SIDE / min(image.shape[:2]), 1))
    drawn = canvas.overlay_instances(
        boxes=found.pred_boxes,
        labels=predicted(found, names).texts,
        masks=found.pred_masks.numpy() if found.has("pred_masks") else None,
        keypoints=found.pred_keypoints if found.has("pred_keypoints") else None,
        assigned_colors=[_color(number) for number in found.pred_classes.tolist()],
    )
    return drawn.get_image()


def _color(number: int) -> tuple[float, float, float]:
    """Return the color of a class: bright, and unlike those of the numbers around it."""
    red, green, blue = hsv_to_rgb((number * 0.618 % 1, 0.75, 1)).tolist()
    return red, green, blue
