"""Detection on Detectron2. Importing it registers the students, the timm backbones and the digits data."""

from densedist.det import data as _data
from densedist.det.backbone import build_timm_fpn_backbone
from densedist.det.config import add_distill_config
from densedist.det.rcnn import DistillRCNN
from densedist.det.retinanet import DistillRetinaNet

_data.register_digits()

__all__ = ["DistillRCNN", "DistillRetinaNet", "add_distill_config", "build_timm_fpn_backbone"]
