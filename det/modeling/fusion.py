"""Fusion of the boxes that several detectors find in an image: weighted boxes fusion (Solovyev et al., 2021)."""

from collections.abc import Sequence

import torch
from detectron2.structures import Boxes, Instances, pairwise_iou
from torch import Tensor

IOU = 0.55  # the paper's (arXiv 1910.13302)


def fuse(found: Sequence[Instances]) -> Instances:
    """Join boxes of one class that overlap by more than IOU to one box, the mean of theirs weighted by score.

    Its score is the mean of theirs, times the share of the detectors that found it: one that few have seen counts for
    less. A box that joins moves the fused one, so higher scores come first.

    Args:
        found: of each detector on the same image: pred_boxes, scores in [0, 1], pred_classes.

    Returns:
        the same fields, highest scores first; masks are left out.
    """
    boxes = torch.cat([of_one.pred_boxes.tensor for of_one in found]).double()
    scores = torch.cat([of_one.scores for of_one in found]).double()
    classes = torch.cat([of_one.pred_classes for of_one in found])
    fused: list[Tensor] = []
    members: list[list[int]] = []
    for number in scores.argsort(descending=True, stable=True).tolist():
        joined = _nearest(boxes[number], fused, [int(classes[of[0]]) == int(classes[number]) for of in members])
        if joined is None:
            members.append([])
            fused.append(boxes[number])
            joined = len(members) - 1
        members[joined].append(number)
        weights = scores[members[joined]]
        fused[joined] = (boxes[members[joined]] * weights[:, None]).sum(0) / weights.sum()
    kept = [scores[of].mean() * min(len(of), len(found)) / len(found) for of in members]
    result = Instances(found[0].image_size)
    result.pred_boxes = Boxes(torch.stack(fused).float() if fused else boxes.new_zeros(0, 4).float())
    result.scores = torch.stack(kept).float() if kept else scores.float()
    result.pred_classes = classes[[of[0] for of in members]]
    return result[result.scores.argsort(descending=True, stable=True)]


def _nearest(box: Tensor, fused: Sequence[Tensor], same_class: Sequence[bool]) -> int | None:
    """Return the number of the fused box that a box joins."""
    if not any(same_class):
        return None
    overlaps = pairwise_iou(Boxes(torch.stack(list(fused))), Boxes(box[None]))[:, 0]
    overlap, best = overlaps.where(torch.tensor(same_class), 0.0).max(0)
    return int(best) if overlap > IOU else None
