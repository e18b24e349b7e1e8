"""Feature pyramids of other projects' RetinaNets, which differ from Detectron2's in P6 and P7 alone."""

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN
from detectron2.modeling.backbone import build_resnet_backbone
from detectron2.modeling.backbone.fpn import LastLevelP6P7
from torch import Tensor


class PlainP6P7(LastLevelP6P7):
    """P6 and P7 as two convolutions of stride 2 with no ReLU between them."""

    def forward(self, features: Tensor) -> list[Tensor]:
        """P6 and P7, each (N, C, H, W), of the map that they start from."""
        p6 = self.p6(features)
        return [p6, self.p7(p6)]


@BACKBONE_REGISTRY.register()
def build_retinanet_resnet_fpn_plain_p7_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Detectron2's build_retinanet_resnet_fpn_backbone, but without a ReLU before P7: mmdetection's."""
    bottom_up = build_resnet_backbone(cfg, input_shape)
    channels = bottom_up.output_shape()["res5"].channels
    fpn = cfg.MODEL.FPN
    top = PlainP6P7(channels, fpn.OUT_CHANNELS)
    return FPN(bottom_up, fpn.IN_FEATURES, fpn.OUT_CHANNELS, fpn.NORM, top, fpn.FUSE_TYPE)


@BACKBONE_REGISTRY.register()
def build_retinanet_resnet_fpn_p6_of_p5_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Detectron2's build_retinanet_resnet_fpn_backbone, but with P6 from P5, not from C5: torchvision's first one."""
    bottom_up = build_resnet_backbone(cfg, input_shape)
    fpn = cfg.MODEL.FPN
    top = LastLevelP6P7(fpn.OUT_CHANNELS, fpn.OUT_CHANNELS, "p5")
    return FPN(bottom_up, fpn.IN_FEATURES, fpn.OUT_CHANNELS, fpn.NORM, top, fpn.FUSE_TYPE)
