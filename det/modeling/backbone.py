"""timm models under a feature pyramid: small students, which stock Detectron2 has not."""

import copy
import math
from collections.abc import Mapping
from typing import Any

import timm
import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN, Backbone
from detectron2.modeling.backbone import build_resnet_backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool, LastLevelP6P7
from timm.utils.model import freeze_batch_norm_2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from densedist.common.engine.batch_norm import synchronize_batch_norm
from densedist.common.errors import UserError, one_line
from densedist.common.pretrained import REMEDY, answering_hub, from_package

# What timm calls it where a model is built for one image size, but can do without: as it is, swin, vision transformers.
ANY_SIZE: tuple[Mapping[str, Any], ...] = ({}, {"strict_img_size": False}, {"dynamic_img_size": True})
# Height and width of the images of the trial, in strides of the coarsest map, whose multiples are all that it sees.
TRIAL_SIZES = (10, 13), (11, 9)


class TimmBackbone(Backbone):
    """A timm `features_only` model as a Detectron2 backbone; the features of stride 4, 8, … are res2, res3, …

    A model for one image size is built for any size where timm can do that, and maps with their channels last are
    turned: forward() gives (N, C, H, W).

    Args:
        name: timm's model name.
        out_features: any of res1 (stride 2) to res5 (stride 32) that the model has.
        pretrained: start from timm's weights: of an installed package (common/pretrained.py), or a download.
        norm: "BN", "SyncBN", or "FrozenBN" (statistics and affine fixed, as in Detectron2's ResNets).
        args: further arguments of timm's model, e.g. {"channels": [16, 32, 64, 128]} for a thin ResNet.

    Raises:
        UserError: an unknown model, feature or norm, or a model that does not take images of any size.
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
        levels = _levels(_create(name, options).feature_info)
        if missing := [feature for feature in out_features if feature not in levels]:
            there = ", ".join(levels) or "no map of stride 2, 4, 8, 16 or 32"
            raise UserError(f"MODEL.FPN.IN_FEATURES: {name} has {there}, not {', '.join(missing)}")
        # Only as deep as is asked for.
        options["out_indices"] = tuple(levels[feature] for feature in out_features)
        model, options = _for_any_size(name, options)
        if pretrained:
            model = _pretrained(name, options)
        self.model = _with_norm(model, name, norm)
        self._out_features = out_features
        self._out_feature_strides = dict(zip(out_features, model.feature_info.reduction(), strict=True))
        self._out_feature_channels = dict(zip(out_features, model.feature_info.channels(), strict=True))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return dict(zip(self._out_features, _channels_first(self.model, images), strict=True))


@BACKBONE_REGISTRY.register()
def build_timm_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Build FPN on the timm model MODEL.TIMM.NAME, with the levels MODEL.FPN.IN_FEATURES and one coarser."""
    top = LastLevelMaxPool()
    top.in_feature = cfg.MODEL.FPN.IN_FEATURES[-1].replace("res", "p")  # stock: p5, whatever the levels are
    return _pyramid(cfg, _bottom_up(cfg), top)


@BACKBONE_REGISTRY.register()
def build_timm_retinanet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Build FPN on the timm model MODEL.TIMM.NAME, with the levels MODEL.FPN.IN_FEATURES and two coarser: RetinaNet's.

    With IN_FEATURES res3 to res5 these are p3 to p7, of which p6 and p7 are convolutions of stride 2 on res5, as in
    Detectron2's build_retinanet_resnet_fpn_backbone.
    """
    bottom_up = _bottom_up(cfg)
    last = cfg.MODEL.FPN.IN_FEATURES[-1]
    channels = bottom_up.output_shape()[last].channels
    return _pyramid(cfg, bottom_up, LastLevelP6P7(channels, cfg.MODEL.FPN.OUT_CHANNELS, last))


class PlainP6P7(LastLevelP6P7):
    """P6 and P7 as two convolutions of stride 2 with no ReLU between them."""

    def forward(self, features: Tensor) -> list[Tensor]:
        """Return P6 and P7, each (N, C, H, W), of the map that they start from."""
        p6 = self.p6(features)
        return [p6, self.p7(p6)]


@BACKBONE_REGISTRY.register()
def build_retinanet_resnet_fpn_plain_p7_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Build what build_retinanet_resnet_fpn_backbone builds, but without a ReLU before P7: mmdetection's."""
    bottom_up = build_resnet_backbone(cfg, input_shape)
    channels = bottom_up.output_shape()["res5"].channels
    fpn = cfg.MODEL.FPN
    top = PlainP6P7(channels, fpn.OUT_CHANNELS)
    return FPN(bottom_up, fpn.IN_FEATURES, fpn.OUT_CHANNELS, fpn.NORM, top, fpn.FUSE_TYPE)


@BACKBONE_REGISTRY.register()
def build_retinanet_resnet_fpn_p6_of_p5_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Build what build_retinanet_resnet_fpn_backbone builds, but with P6 from P5, not C5: torchvision's first one."""
    bottom_up = build_resnet_backbone(cfg, input_shape)
    fpn = cfg.MODEL.FPN
    top = LastLevelP6P7(fpn.OUT_CHANNELS, fpn.OUT_CHANNELS, "p5")
    return FPN(bottom_up, fpn.IN_FEATURES, fpn.OUT_CHANNELS, fpn.NORM, top, fpn.FUSE_TYPE)


def _create(name: str, options: Mapping[str, Any]) -> Any:
    try:
        return timm.create_model(name, **options)
    except Exception as error:  # timm raises many kinds: no features, unknown arguments, no network
        raise UserError(f"MODEL.TIMM {name}: {one_line(error)}") from error


def _pretrained(name: str, options: Mapping[str, Any]) -> Any:
    packaged = from_package(name, options)
    try:
        with answering_hub(needed=not packaged):
            return timm.create_model(name, **{**options, "pretrained": True, **packaged})
    except Exception as error:
        raise UserError(
            f"MODEL.TIMM.PRETRAINED: cannot get the weights of {name}: {one_line(error)}; {REMEDY}; or set the key to "
            "False for random weights"
        ) from error


def _levels(info: Any) -> dict[str, int]:
    """Return timm's indices of the maps by name; of several with one stride the deepest, none of a stride as 14."""
    maps = zip(info.out_indices, map(math.log2, info.reduction()), strict=True)
    return {f"res{int(level)}": index for index, level in maps if level >= 1 and level.is_integer()}


def _channels_first(model: Any, images: Tensor) -> list[Tensor]:
    """Run the model and give its maps, all as (N, C, H, W)."""
    maps = model(images)
    if getattr(model, "output_fmt", "NCHW") == "NHWC":
        return [x.permute(0, 3, 1, 2).contiguous() for x in maps]
    return list(maps)


def _for_any_size(name: str, options: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Build a timm model that takes images of any size, and return the options that made it, too.

    Raises:
        UserError: it takes images of one size only, or its maps are not the image over their strides.
    """
    reasons = []
    for more in ANY_SIZE:
        try:
            model = _create(name, {**options, **more})
        except UserError:
            if not more:
                raise
            continue  # it has no such option
        if not (reason := _complaint(model)):
            return model, {**options, **more}
        reasons.append(reason)
    raise UserError(
        f"MODEL.TIMM.NAME: {name} does not take images of any size ({reasons[0]}): name another model, "
        "such as resnet18, mobilenetv4_conv_small, convnext_tiny or swin_tiny_patch4_window7_224"
    )


@torch.no_grad()
def _complaint(model: Any) -> str:
    """Say what is wrong with the maps of images of several sizes; "" if nothing is. No number is computed."""
    trial = copy.deepcopy(model).eval().to("meta")
    strides, channels = model.feature_info.reduction(), model.feature_info.channels()
    for size in TRIAL_SIZES:
        height, width = (n * max(strides) for n in size)
        try:
            maps = _channels_first(trial, torch.empty(1, 3, height, width, device="meta"))
        except Exception as error:  # timm's models raise many kinds
            return f"{height}x{width}: {one_line(error)}"
        for x, stride, count in zip(maps, strides, channels, strict=True):
            if x.shape != (1, count, height // stride, width // stride):
                return f"{height}x{width}: a map of stride {stride} is {x.shape[-2]}x{x.shape[-1]}"
    return ""


def _with_norm(model: nn.Module, name: str, norm: str) -> nn.Module:
    """Give the model the norm of MODEL.TIMM.NORM, with the activations that timm has inside its batch norms."""
    if norm not in ("BN", "SyncBN", "FrozenBN"):
        raise UserError(f"MODEL.TIMM.NORM is {norm}: want BN, SyncBN or FrozenBN")
    if norm != "BN" and not any(isinstance(layer, _BatchNorm) for layer in model.modules()):
        raise UserError(f"MODEL.TIMM.NORM is {norm}, but {name} has no batch norm: leave it BN")
    if norm == "SyncBN":
        return synchronize_batch_norm(model)
    return freeze_batch_norm_2d(model) if norm == "FrozenBN" else model


def _bottom_up(cfg: CfgNode) -> TimmBackbone:
    timm_cfg = cfg.MODEL.TIMM
    levels = list(cfg.MODEL.FPN.IN_FEATURES)
    return TimmBackbone(timm_cfg.NAME, levels, timm_cfg.PRETRAINED, timm_cfg.NORM, timm_cfg.ARGS)


def _pyramid(cfg: CfgNode, bottom_up: TimmBackbone, top: nn.Module) -> FPN:
    fpn = cfg.MODEL.FPN
    return FPN(bottom_up, list(fpn.IN_FEATURES), fpn.OUT_CHANNELS, fpn.NORM, top, fpn.FUSE_TYPE)
