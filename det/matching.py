"""Which predicted boxes are right, and which objects were missed."""

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
