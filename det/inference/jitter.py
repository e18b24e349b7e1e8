"""How reliable the place of a detector's box is: by how much it moves when the box that is looked at is jittered.

This is the box regression variance of Soft Teacher (Xu et al., ICCV 2021, section 3.4), by which pseudo boxes are
chosen for the regression of boxes: their scores say how sure the class is, and little of the place.
"""

from typing import Any

import torch
from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.structures import Boxes
from torch import Tensor, nn

from densedist.common.errors import UserError
from densedist.det.modeling import box_head

TIMES, OFFSET = 10, 0.06  # the paper's: copies of a box, and by what share of a side their edges are moved at most


def check_jitter(model: nn.Module) -> None:
    """Refuse a detector that cannot look at given boxes.

    Raises:
        UserError: it has no RoI heads, or those of another kind than Detectron2's.
    """
    if not isinstance(model, GeneralizedRCNN):
        raise UserError(
            f"--box-variance, PSEUDO_LABELS.MAX_BOX_VARIANCE: a {type(model).__name__} has no RoI heads to look at "
            "jittered boxes with: take an R-CNN as the teacher, or leave it out"
        )
    box_head.check(model.roi_heads)


@torch.no_grad()
def box_variances(model: GeneralizedRCNN, sample: dict[str, Any], boxes: Boxes, classes: Tensor) -> Tensor:
    """Return the variance (M,) of boxes, on the CPU: 0 for one that stays where it is.

    Each edge of a box is moved TIMES times, uniformly by up to OFFSET of the width or height, the box head of the last
    stage refines each copy, and what leaves the image is cut off. The variance is, as in the paper, the standard
    deviation of each of the four coordinates, as a share of half of width plus height, and the mean of the four. The
    same boxes have the same variance in each call.

    Args:
        model: in eval mode.
        sample: {"image": raw (3, H, W), "height", "width"}, the latter of the original image.
        boxes: M, in pixels of the original image.
        classes: (M,), the model's.
    """
    if not len(boxes):
        return torch.zeros(0)
    images = model.preprocess_image([sample])
    size = images.image_sizes[0]
    shares = torch.tensor([size[1] / sample["width"], size[0] / sample["height"]] * 2)
    placed = boxes.tensor.cpu() * shares
    sides = (placed[:, 2:] - placed[:, :2]).clamp(min=1)
    moves = torch.rand(TIMES, *placed.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    jittered = (placed + OFFSET * moves * sides.repeat(1, 2)).flatten(0, 1).to(model.device)
    refined = box_head.refine(model.roi_heads, model.backbone(images.tensor), [Boxes(jittered)], [size])
    seen = Boxes(box_head.of_class(refined, classes.to(model.device).repeat(TIMES)))
    seen.clip(size)
    deviations = seen.tensor.float().cpu().view(TIMES, *placed.shape).std(0)
    return (deviations / sides.mean(1, keepdim=True)).mean(1)
