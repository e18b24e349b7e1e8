"""Detection on Detectron2. Importing it registers the students, the timm backbones and the digits data."""

from det import data as _data
from det.backbone import build_timm_fpn_backbone
from det.config import add_distill_config
from det.rcnn import DistillRCNN
from det.retinanet import DistillRetinaNet

_data.register_digits()

__all__ = ["DistillRCNN", "DistillRetinaNet", "add_distill_config", "build_timm_fpn_backbone"]
