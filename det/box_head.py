"""The box classifier inside Detectron2's RoI heads: standard, cascade and C4."""

import math

import torch
from detectron2.modeling import Backbone
from detectron2.modeling.roi_heads import CascadeROIHeads, Res5ROIHeads, ROIHeads, StandardROIHeads
from detectron2.structures import Boxes
from torch import Tensor, nn

from densedist.common.errors import UserError
from densedist.common.losses.checks import Activation, widen


def check(roi_heads: nn.Module) -> None:
    """Raises UserError for RoI heads whose box classifier is not known here."""
    if not isinstance(roi_heads, (StandardROIHeads, Res5ROIHeads)):
        kind = type(roi_heads).__name__
        raise UserError(f"MODEL.ROI_HEADS.NAME: {kind} is no StandardROIHeads, CascadeROIHeads or Res5ROIHeads")


def pooler(roi_heads: ROIHeads) -> nn.Module:
    """The module called with (features, boxes) once for each box prediction."""
    return roi_heads.pooler if isinstance(roi_heads, Res5ROIHeads) else roi_heads.box_pooler


def predictors(roi_heads: ROIHeads) -> list[nn.Module]:
    """The modules that return (class logits (R, K+1), box deltas), one per stage."""
    if isinstance(roi_heads, CascadeROIHeads):
        return list(roi_heads.box_predictor)
    return [roi_heads.box_predictor]


def pooled_channels(roi_heads: ROIHeads, backbone: Backbone) -> int:
    """Channels of pooled features."""
    return backbone.output_shape()[_in_features(roi_heads)[0]].channels


def pooled(roi_heads: ROIHeads, features: dict[str, Tensor], boxes: list[Boxes]) -> Tensor:
    """Pooled features (R, C, size, size) of the given boxes (one Boxes per image, R in all)."""
    maps = [features[name] for name in _in_features(roi_heads)]
    # In float32: the pooler gives boxes the maps' precision, and half of it knows whole pixels only.
    return pooler(roi_heads)([widen(x) for x in maps], boxes).to(maps[0].dtype)


def _in_features(roi_heads: ROIHeads) -> list[str]:
    return roi_heads.in_features if isinstance(roi_heads, Res5ROIHeads) else roi_heads.box_in_features


def activation(roi_heads: ROIHeads) -> Activation:
    """Of the class logits: a sigmoid for each class where MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE trains them so."""
    return "sigmoid" if all(getattr(p, "use_sigmoid_ce", False) for p in predictors(roi_heads)) else "softmax"


def columns(roi_heads: ROIHeads, scores: Tensor) -> Tensor:
    """Of a predictor's scores (R, K+1) those that are trained: with sigmoids not the last, of the background."""
    return scores[:, :-1] if activation(roi_heads) == "sigmoid" else scores


def cls_logits(roi_heads: ROIHeads, features: dict[str, Tensor], boxes: list[Boxes], stages: str) -> Tensor:
    """Class logits of the given boxes (one Boxes per image, R in all): (R, K+1), background last; with sigmoids (R, K).

    Args:
        stages: of a cascade, "first": stage 1 alone; "mean": the logarithm of the mean of the stages'
            probabilities (the scores that Cascade R-CNN itself predicts with), all on the given boxes.
    """
    regions = pooled(roi_heads, features, boxes)
    if isinstance(roi_heads, Res5ROIHeads):
        return columns(roi_heads, roi_heads.box_predictor(roi_heads.res5(regions).mean(dim=[2, 3]))[0])
    if not isinstance(roi_heads, CascadeROIHeads):
        return columns(roi_heads, roi_heads.box_predictor(roi_heads.box_head(regions))[0])
    count = len(roi_heads.box_predictor) if stages == "mean" else 1
    heads = list(zip(roi_heads.box_head, roi_heads.box_predictor, strict=True))[:count]
    logits = [columns(roi_heads, predict(head(regions))[0]) for head, predict in heads]
    if count == 1:
        return logits[0]
    if activation(roi_heads) == "sigmoid":
        return torch.stack([x.float().sigmoid() for x in logits]).mean(0).logit(eps=1e-7)
    return torch.stack([x.float().log_softmax(1) for x in logits]).logsumexp(0) - math.log(count)
