"""Any timm model under a feature pyramid: small students, which stock Detectron2 has not."""

import math
from collections.abc import Mapping
from typing import Any

import timm
from detectron2.config import CfgNode
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN, Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from torch import Tensor, nn

from densedist.common.errors import UserError


class TimmBackbone(Backbone):
    """A timm `features_only` model as a Detectron2 backbone; the features of stride 4, 8, … are res2, res3, …

    Args:
        name: timm's model name.
        out_features: any of res1 (stride 2) to res5 (stride 32) that the model has.
        pretrained: start from timm's weights (a download).
        norm: "BN", "SyncBN", or "FrozenBN" (statistics and affine fixed, as in Detectron2's ResNets).
        args: further arguments of timm's model, e.g. {"channels": [16, 32, 64, 128]} for a thin ResNet.

    Raises:
        UserError: an unknown model, feature or norm.
    """

    def __init__(
        self,
        name: str,
        out_features: list[str],
        pretrained: bool = False,
        norm: str = "BN",
        args: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if not timm.is_model(name):
            raise UserError(f"MODEL.TIMM.NAME: timm has no model {name}")
        options = {"features_only": True, **(args or {})}
        levels = [f"res{int(math.log2(s))}" for s in _create(name, options).feature_info.reduction()]
        if missing := [feature for feature in out_features if feature not in levels]:
            raise UserError(f"MODEL.FPN.IN_FEATURES: {name} has {', '.join(levels)}, not {', '.join(missing)}")
        # Only as deep as is asked for.
        indices = tuple(levels.index(feature) for feature in out_features)
        model = _create(name, {**options, "pretrained": pretrained, "out_indices": indices})
        self.model = _with_norm(model, norm)
        self._out_features = out_features
        self._out_feature_strides = dict(zip(out_features, model.feature_info.reduction(), strict=True))
        self._out_feature_channels = dict(zip(out_features, model.feature_info.channels(), strict=True))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return dict(zip(self._out_features, self.model(images), strict=True))


def _create(name: str, options: Mapping[str, Any]) -> Any:
    try:
        return timm.create_model(name, **options)
    except Exception as error:  # timm raises many kinds: no features, unknown arguments, no network
        raise UserError(f"MODEL.TIMM {name}: {' '.join(str(error).split())}") from error


def _with_norm(model: nn.Module, norm: str) -> nn.Module:
    if norm == "BN":
        return model
    if norm == "SyncBN":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    if norm == "FrozenBN":
        return FrozenBatchNorm2d.convert_frozen_batchnorm(model)
    raise UserError(f"MODEL.TIMM.NORM is {norm}: want BN, SyncBN or FrozenBN")


@BACKBONE_REGISTRY.register()
def build_timm_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """FPN on the timm model MODEL.TIMM.NAME, with the levels MODEL.FPN.IN_FEATURES and one coarser."""
    in_features = list(cfg.MODEL.FPN.IN_FEATURES)
    timm_cfg = cfg.MODEL.TIMM
    bottom_up = TimmBackbone(timm_cfg.NAME, in_features, timm_cfg.PRETRAINED, timm_cfg.NORM, timm_cfg.ARGS)
    pool = LastLevelMaxPool()
    pool.in_feature = in_features[-1].replace("res", "p")  # stock: p5, whatever the levels are
    return FPN(
        bottom_up,
        in_features,
        cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=pool,
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )
