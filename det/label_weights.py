"""How much labels teach a detector: factors on the gradient of what it predicts for RoIs, masks and anchors.

Labels that a teacher wrote, whose sample has MARK, count by a weight; each object also by its score, where instances
have GT_SCORES, and its place not at all, where GT_PLACED is 0. IGNORED boxes of a sample are neither objects nor
background.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.meta_arch import GeneralizedRCNN, RetinaNet
from detectron2.modeling.proposal_generator import RPN
from detectron2.structures import Boxes, Instances, pairwise_ioa, pairwise_iou
from torch import Tensor, nn

from densedist.common.data.sides import MARK
from densedist.common.distill.gradient_factors import scale_gradient
from densedist.common.errors import UserError
from densedist.common.modules import changed, record
from densedist.det.data.teacher_labels import GT_PLACED, GT_SCORES, IGNORED
from densedist.det.modeling import box_head

# The share of a box's own area that has to lie on an ignored one, as COCO's evaluation asks of a detection on a crowd.
# A RoI or anchor that would be an object, were the ignored box one, has it: its IoU is 0.5 or more.
ON_IGNORED = 0.5


@contextmanager
def weighed(model: Any, samples: Sequence[dict], weight: float) -> Iterator[None]:
    """Multiply, within the block, the gradient that each RoI, mask and anchor gets from its label; losses stay.

    The factor is that of the object which the model's own matcher gives a RoI or an anchor, once for its class and once
    for its place. Background has its image's, and 0 where it lies on an ignored box. A RoI has it at all stages of a
    cascade.

    Args:
        model: an R-CNN or a RetinaNet that runs once in the block, on the samples.
        samples: with "instances".
        weight: PSEUDO_LABELS.WEIGHT.

    Raises:
        UserError: labels have weights, and the model is another one (see check).
    """
    with ExitStack() as stack:
        if any(_are_weighed(sample, weight) for sample in samples):
            check(model)
            device = next(model.parameters()).device
            labels = [_Labels.of(sample, weight, device) for sample in samples]
            if isinstance(model, RetinaNet):
                stack.enter_context(_weighed_anchors(model.head, model, labels))
            else:
                if (network := model.proposal_generator) is not None:
                    stack.enter_context(_weighed_anchors(network.rpn_head, network, labels))
                stack.enter_context(_weighed_rois(model.roi_heads, labels))
                if model.roi_heads.mask_on:
                    stack.enter_context(_weighed_masks(model.roi_heads.mask_head, labels))
        yield


def check(model: Any) -> None:
    """Refuse a model whose labels cannot have weights.

    Raises:
        UserError: it is no R-CNN and no RetinaNet, or an R-CNN with other parts than Detectron2's for boxes and masks.
    """
    if isinstance(model, RetinaNet):
        return
    if not isinstance(model, GeneralizedRCNN):
        raise UserError(f"PSEUDO_LABELS: a {type(model).__name__} ignores their weights: use an R-CNN or a RetinaNet")
    heads, network = model.roi_heads, model.proposal_generator
    box_head.check(heads)
    own = "which ignores the PSEUDO_LABELS weights"
    if network is not None and not (isinstance(network, RPN) and network.anchor_generator.box_dim == 4):
        raise UserError(f"MODEL.PROPOSAL_GENERATOR.NAME is {type(network).__name__}, {own}: use RPN")
    if getattr(heads, "keypoint_on", False):
        raise UserError(f"MODEL.KEYPOINT_ON is True, {own}: set it to False")
    if heads.mask_on and not hasattr(heads.mask_head, "predictor"):
        name = type(heads.mask_head).__name__
        raise UserError(f"MODEL.ROI_MASK_HEAD.NAME is {name}, {own}: use MaskRCNNConvUpsampleHead")


def _are_weighed(sample: dict, weight: float) -> bool:
    """Return whether any label counts otherwise than by 1; where none does, all is left as it is, bit for bit."""
    objects: Instances = sample["instances"]
    each = any(objects.has(name) and bool((objects.get(name) != 1).any()) for name in (GT_SCORES, GT_PLACED))
    return each or (MARK in sample and weight != 1) or bool(sample.get(IGNORED))


@dataclass(frozen=True)
class _Labels:
    """The labels of an image: boxes and weights of its M objects, which of these teach a place (None = all), the weight
    of its background, and ignored boxes."""

    boxes: Boxes
    weights: Tensor
    placed: Tensor | None
    background: float
    ignored: Boxes
    alike: bool  # objects and background have one weight, and nothing is ignored

    @classmethod
    def of(cls, sample: dict, weight: float, device: torch.device) -> "_Labels":
        objects: Instances = sample["instances"]  # whose masks are not needed on the device
        background = weight if MARK in sample else 1.0
        ignored = sample.get(IGNORED) or Boxes(torch.zeros(0, 4))
        placed = objects.get(GT_PLACED).to(device) if objects.has(GT_PLACED) else None
        alike = not (len(ignored) or objects.has(GT_SCORES) or placed is not None)
        weights = _weights(objects, background).to(device)
        return cls(objects.gt_boxes.to(device), weights, placed, background, ignored.to(device), alike)

    def factors(self, boxes: Boxes, matcher: Matcher) -> tuple[Tensor, Tensor]:
        """Return the factors (R,) of each of R boxes for class and place."""
        factors = boxes.tensor.new_full((len(boxes),), self.background)
        if self.alike:
            return factors, factors
        if len(self.ignored):
            factors[(pairwise_ioa(self.ignored, boxes) >= ON_IGNORED).any(0)] = 0
        if not len(self.boxes):
            return factors, factors
        matched, kind = matcher(pairwise_iou(self.boxes, boxes))
        of_class = self.weights[matched].where(kind == 1, factors)
        # Background learns no place, whatever factor it has.
        return of_class, of_class if self.placed is None else of_class * self.placed[matched]


def _weights(objects: Instances, weight: float) -> Tensor:
    """Return the weights (M,) of instances: that of their image, times their scores if they have some."""
    weights = objects.gt_classes.new_full((len(objects),), weight, dtype=torch.float32)
    return weights * objects.get(GT_SCORES) if objects.has(GT_SCORES) else weights


@contextmanager
def _weighed_rois(heads: Any, labels: Sequence[_Labels]) -> Iterator[None]:
    with record(box_head.pooler(heads), lambda args, _: args[1]) as calls, ExitStack() as stack:
        for stage, predictor in enumerate(box_head.predictors(heads)):
            matcher = box_head.matcher(heads, stage)

            def weigh(_: Any, output: tuple[Tensor, ...], matcher: Matcher = matcher) -> tuple[Tensor, ...]:
                images = zip(labels, calls[-1], strict=True)
                factors = zip(*(of_image.factors(boxes, matcher) for of_image, boxes in images), strict=True)
                return tuple(scale_gradient(x, torch.cat(each)) for x, each in zip(output, factors, strict=True))

            stack.enter_context(changed(predictor, weigh))
        yield


@contextmanager
def _weighed_masks(head: Any, labels: Sequence[_Labels]) -> Iterator[None]:
    """Weigh masks by the objects that their RoIs were sampled for, whatever box they have by now."""
    given: list[Sequence[Instances]] = []

    def weigh(_: Any, logits: Tensor) -> Tensor:
        each = zip(labels, given[-1], strict=True)
        return scale_gradient(logits, torch.cat([_weights(rois, of_image.background) for of_image, rois in each]))

    handle = head.register_forward_pre_hook(lambda _, args: given.append(args[1]))
    try:
        with changed(head.predictor, weigh):
            yield
    finally:
        handle.remove()


@contextmanager
def _weighed_anchors(head: nn.Module, model: Any, labels: Sequence[_Labels]) -> Iterator[None]:
    """Weigh the maps of a dense head, (N, anchors x columns, H, W) by level.

    Args:
        model: whose anchors and matcher they have: a RetinaNet, or an R-CNN's region proposal network.
    """

    def weigh(_: Any, output: tuple[Sequence[Tensor], ...]) -> tuple[list[Tensor], ...]:
        anchors = model.anchor_generator(output[0])
        every = Boxes.cat(anchors)
        sizes = [len(of_level) for of_level in anchors]
        factors = zip(*(of_image.factors(every, model.anchor_matcher) for of_image in labels), strict=True)
        levels = [torch.stack(each).split(sizes, dim=1) for each in factors]
        return tuple(list(map(_weighed_map, maps, each)) for maps, each in zip(output, levels, strict=True))

    with changed(head, weigh):
        yield


def _weighed_map(x: Tensor, factors: Tensor) -> Tensor:
    """Scale the gradient of a map (N, anchors x columns, H, W) by the factors (N, H x W x anchors) of its anchors."""
    size = x.shape[2:]
    of_places = factors.unflatten(1, (*size, -1)).permute(0, 3, 1, 2).unsqueeze(2)
    return scale_gradient(x.unflatten(1, (of_places.shape[1], -1)), of_places).flatten(1, 2)
