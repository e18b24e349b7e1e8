"""How far exported detections are from PyTorch's on real images."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from detectron2.config import CfgNode
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances
from torch import Tensor

from densedist.common.export import Figure
from densedist.det.evaluation import average_precision
from densedist.det.models import Trained

# Pixels; of 1; of a hundred. Float32 rounds otherwise in another order of the same sums.
BOXES, SCORES, AP = 0.05, 1e-3, 0.01


@dataclass(frozen=True)
class Detections:
    """Of one image: boxes (R, 4) as x0, y0, x1, y1 in its pixels, scores (R,), class numbers (R,)."""

    boxes: Tensor
    scores: Tensor
    classes: Tensor


# uint8 (3, H, W) -> Detections
Run = Callable[[Tensor], Detections]


@torch.no_grad()
def compare(trained: Trained, run: Run, samples: Sequence[dict], dataset: str) -> list[Figure]:
    """
    Args:
        run: what was exported.
        samples: {"image": uint8 (3, H, W), "height", "width", "image_id"} of Detectron2's mapper.
        dataset: the name of the data set that the samples are of, empty if they have no annotations.

    Returns:
        how many images have another number of detections; the largest difference of a box and of a score; with
        annotations both APs in percent and their difference.
    """
    ours = [in_pytorch(trained, sample["image"]) for sample in samples]
    theirs = [run(sample["image"]) for sample in samples]
    pairs = list(zip(ours, theirs, strict=True))
    distances = [_distance(a, b) for a, b in pairs]
    figures = [
        Figure("detections", sum(len(d.boxes) for d in ours)),
        Figure("images with another number of detections", sum(len(a.boxes) != len(b.boxes) for a, b in pairs), 0),
        Figure("largest difference of a box, px", max(box for box, _ in distances), BOXES),
        Figure("largest difference of a score", max(score for _, score in distances), SCORES),
    ]
    if dataset:
        before, after = (_average_precision(trained.cfg, dataset, samples, x) for x in (ours, theirs))
        # Not a number where nothing is found or nothing is there: the same in both.
        same = math.isnan(before) and math.isnan(after)
        figures += [Figure("AP in PyTorch", before), Figure("AP", after)]
        figures += [Figure("difference of AP", 0.0 if same else abs(before - after), AP)]
    return figures


@torch.no_grad()
def in_pytorch(trained: Trained, image: Tensor) -> Detections:
    """What the model itself finds in a uint8 (3, H, W) image."""
    found = trained.model([{"image": image}])[0]["instances"]
    return Detections(found.pred_boxes.tensor, found.scores, found.pred_classes)


def _distance(ours: Detections, theirs: Detections) -> tuple[float, float]:
    """Of boxes, and of scores, between each detection and the nearest one of its class on the other side."""
    if not len(ours.boxes) or not len(theirs.boxes):
        return (0.0, 0.0) if len(ours.boxes) == len(theirs.boxes) else (math.inf, math.inf)
    boxes = (ours.boxes[:, None] - theirs.boxes[None]).abs().amax(2)
    boxes[ours.classes[:, None] != theirs.classes[None]] = math.inf
    scores = (ours.scores[:, None] - theirs.scores[None]).abs()
    worst_box = worst_score = 0.0
    for side in (1, 0):
        nearest = boxes.min(side)
        worst_box = max(worst_box, float(nearest.values.max()))
        worst_score = max(worst_score, float(scores.gather(side, nearest.indices.unsqueeze(side)).max()))
    return worst_box, worst_score


def _average_precision(cfg: CfgNode, dataset: str, samples: Sequence[dict], detections: Sequence[Detections]) -> float:
    """COCO AP in percent on these images alone."""
    outputs = []
    for sample, found in zip(samples, detections, strict=True):
        instances = Instances(tuple(sample["image"].shape[1:]))
        instances.pred_boxes, instances.scores = Boxes(found.boxes), found.scores
        instances.pred_classes = found.classes
        outputs.append({"instances": detector_postprocess(instances, sample["height"], sample["width"])})
    return average_precision(cfg, dataset, samples, outputs)
