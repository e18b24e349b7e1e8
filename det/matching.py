"""Which predicted boxes are right, and which objects were missed."""

from collections.abc import Sequence

import torch
from detectron2.structures import Instances, pairwise_iou
from torch import Tensor

IOU = 0.5  # a box has found an object from this overlap on


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


def best_score(found: Sequence[Instances], objects: Sequence[Instances]) -> float | None:
    """The score from which on predictions on some images have the best F1, all taken together; None if none is right.

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
