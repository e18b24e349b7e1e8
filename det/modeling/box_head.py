"""The box head inside Detectron2's RoI heads: standard, cascade and C4."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.modeling import Backbone
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.roi_heads import CascadeROIHeads, Res5ROIHeads, ROIHeads, StandardROIHeads
from detectron2.structures import Boxes, Instances, pairwise_iou
from torch import Tensor, nn

from densedist.common.distill.ensemble import mean_logits
from densedist.common.distill.taps import UNLABELED
from densedist.common.errors import UserError
from densedist.common.losses.checks import Activation, widen


@dataclass(frozen=True)
class Predictions:
    """Class logits (R, K+1) of R boxes, background last, or with sigmoids (R, K); and deltas (R, 4) or (R, 4·K)."""

    logits: Tensor
    deltas: Tensor


def check(roi_heads: nn.Module) -> None:
    """Refuse RoI heads whose box classifier is not known here (UserError)."""
    if not isinstance(roi_heads, (StandardROIHeads, Res5ROIHeads)):
        kind = type(roi_heads).__name__
        raise UserError(f"MODEL.ROI_HEADS.NAME: {kind} is not a StandardROIHeads, CascadeROIHeads or Res5ROIHeads")


def pooler(roi_heads: ROIHeads) -> nn.Module:
    """Return the module that is called with (features, boxes) once for each box prediction."""
    return roi_heads.pooler if isinstance(roi_heads, Res5ROIHeads) else roi_heads.box_pooler


def predictors(roi_heads: ROIHeads) -> list[Any]:
    """Return the modules that give (class logits (R, K+1), box deltas), one per stage."""
    if isinstance(roi_heads, CascadeROIHeads):
        return list(roi_heads.box_predictor)
    return [roi_heads.box_predictor]


def matcher(roi_heads: ROIHeads, stage: int) -> Matcher:
    """Return what matches RoIs to objects: of a cascade each stage has its own."""
    return roi_heads.proposal_matchers[stage] if isinstance(roi_heads, CascadeROIHeads) else roi_heads.proposal_matcher


def pooled_channels(roi_heads: ROIHeads, backbone: Backbone) -> int:
    """Return how many channels pooled features have."""
    return backbone.output_shape()[_in_features(roi_heads)[0]].channels


def pooled(roi_heads: ROIHeads, features: dict[str, Tensor], boxes: list[Boxes]) -> Tensor:
    """Pool the features (R, C, size, size) of boxes (one Boxes per image, R in all)."""
    maps = [features[name] for name in _in_features(roi_heads)]
    # In float32: the pooler gives boxes the maps' precision, and half of it knows whole pixels only.
    return pooler(roi_heads)([widen(x) for x in maps], boxes).to(maps[0].dtype)


def _in_features(roi_heads: ROIHeads) -> list[str]:
    return roi_heads.in_features if isinstance(roi_heads, Res5ROIHeads) else roi_heads.box_in_features


def activation(roi_heads: ROIHeads) -> Activation:
    """Return what class logits go through: sigmoids where MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE trains them so."""
    return "sigmoid" if all(getattr(p, "use_sigmoid_ce", False) for p in predictors(roi_heads)) else "softmax"


def columns(roi_heads: ROIHeads, scores: Tensor) -> Tensor:
    """Return those of a predictor's scores (R, K+1) that are trained: with sigmoids all but the last (background)."""
    return scores[:, :-1] if activation(roi_heads) == "sigmoid" else scores


def cls_logits(roi_heads: ROIHeads, features: dict[str, Tensor], boxes: list[Boxes], stages: str) -> Tensor:
    """Return class logits of boxes (one Boxes per image, R in all): see predict."""
    return predict(roi_heads, pooled(roi_heads, features, boxes), stages).logits


def predict(roi_heads: ROIHeads, regions: Tensor, stages: str) -> Predictions:
    """Run the box head on pooled features (R, C, size, size); the deltas of a cascade are those of stage 1.

    Args:
        stages: of a cascade, "first": class logits of stage 1 alone; "mean": the logarithm of the mean of the stages'
            probabilities (the scores that Cascade R-CNN itself predicts with), all on the same boxes.
    """
    count = len(predictors(roi_heads)) if stages == "mean" else 1
    given = [_predicted(roi_heads, regions, stage) for stage in range(count)]
    logits = [columns(roi_heads, scores) for scores, _ in given]
    return Predictions(mean_logits(logits, activation(roi_heads)), given[0][1])


def _predicted(heads: Any, regions: Tensor, stage: int) -> tuple[Tensor, Tensor]:
    """Return class logits and deltas of pooled features, by a stage of a cascade or by the only one."""
    if isinstance(heads, Res5ROIHeads):
        return heads.box_predictor(heads.res5(regions).mean(dim=[2, 3]))
    if isinstance(heads, CascadeROIHeads):
        return heads.box_predictor[stage](heads.box_head[stage](regions))
    return heads.box_predictor(heads.box_head(regions))


def of_class(values: Tensor, classes: Tensor) -> Tensor:
    """Select from deltas or boxes (R, 4·K) those (R, 4) of a class for each row; class-agnostic ones (R, 4) stay.

    Args:
        classes: (R,), 0 to K-1.
    """
    if values.shape[1] == 4:
        return values
    return values.unflatten(1, (-1, 4))[torch.arange(len(values), device=values.device), classes]


def classes_of(roi_heads: ROIHeads, stage: int, boxes: list[Boxes], labels: Sequence[Instances | None]) -> Tensor:
    """Return the classes that a head's own matcher gives boxes (one Boxes per image, R in all): (R,), int64.

    K, of the background, where no object is; UNLABELED in images without labels, and where the matcher ignores a box.

    Args:
        stage: of a cascade, each of which has its own matcher; else 0.
        labels: gt_boxes and gt_classes for each image, None = it has no labels.
    """
    match = matcher(roi_heads, stage)
    found = []
    for of_image, objects in zip(boxes, labels, strict=True):
        classes = torch.full((len(of_image),), UNLABELED, device=of_image.device)
        if objects is not None:
            matched, kind = match(pairwise_iou(objects.gt_boxes.to(of_image.device), of_image))
            gt_classes = objects.gt_classes.to(of_image.device)
            known = gt_classes[matched] if len(gt_classes) else classes
            classes = known.masked_fill(kind == 0, roi_heads.num_classes).masked_fill(kind == -1, UNLABELED)
        found.append(classes)
    return torch.cat(found)


def refine(
    roi_heads: ROIHeads, features: dict[str, Tensor], boxes: list[Boxes], sizes: list[tuple[int, int]]
) -> Tensor:
    """Return where the only stage, or a cascade's last one, puts the boxes (one Boxes per image, R in all): (R, 4·K)
    for each class, (R, 4) where classes share them, as in a cascade.

    Args:
        sizes: height and width of each image; boxes are clipped to it before each stage.
    """
    refined = [of_image.tensor for of_image in boxes]
    for stage, predictor in enumerate(predictors(roi_heads)):
        proposals = [_clipped(of_image, size) for of_image, size in zip(refined, sizes, strict=True)]
        regions = pooled(roi_heads, features, [p.proposal_boxes for p in proposals])
        scores, deltas = _predicted(roi_heads, regions, stage)
        refined = predictor.predict_boxes((scores, deltas.float()), proposals)
    return torch.cat(list(refined))


def _clipped(boxes: Tensor, size: tuple[int, int]) -> Instances:
    """Return proposals (R, 4) inside an image of that height and width, through which no gradient passes."""
    inside = Boxes(boxes.detach())
    inside.clip(size)
    return Instances(size, proposal_boxes=inside)
