"""Detection on Detectron2. Importing it registers the students, the backbones and the digits data."""

from densedist import check_installation

check_installation()

from densedist.det.config import add_distill_config
from densedist.det.data.registering import register_digits
from densedist.det.default_trainer import KeepBeside
from densedist.det.distilling import Distilling
from densedist.det.modeling.backbone import (
    build_retinanet_resnet_fpn_p6_of_p5_backbone,
    build_retinanet_resnet_fpn_plain_p7_backbone,
    build_timm_fpn_backbone,
    build_timm_retinanet_fpn_backbone,
)
from densedist.det.rcnn import DistillRCNN
from densedist.det.retinanet import DistillRetinaNet

register_digits()

__all__ = [
    "DistillRCNN",
    "DistillRetinaNet",
    "Distilling",
    "KeepBeside",
    "add_distill_config",
    "build_retinanet_resnet_fpn_p6_of_p5_backbone",
    "build_retinanet_resnet_fpn_plain_p7_backbone",
    "build_timm_fpn_backbone",
    "build_timm_retinanet_fpn_backbone",
]
