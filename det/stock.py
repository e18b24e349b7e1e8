"""A trained student as stock Detectron2 has it: without this suite's classes and keys."""

from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import BACKBONE_REGISTRY
from torch import nn

from densedist.det.config import without_distillation
from densedist.det.distilling import distilling_class
from densedist.det.models import build


def stock_config(cfg: CfgNode) -> CfgNode:
    """The config of the plain model in Detectron2's own keys, and MODEL.TIMM where its backbone is not Detectron2's."""
    stock = get_cfg()
    _take_over(stock, cfg)
    kind = distilling_class(cfg.MODEL.META_ARCHITECTURE)
    stock.MODEL.META_ARCHITECTURE = kind.stock.__name__ if kind else cfg.MODEL.META_ARCHITECTURE
    stock.MODEL.WEIGHTS = ""
    if not has_stock_backbone(cfg):
        stock.MODEL.TIMM = without_distillation(cfg).MODEL.TIMM
    return stock


def has_stock_backbone(cfg: CfgNode) -> bool:
    """Whether the backbone is Detectron2's, and not this suite's or the user's own, which may read MODEL.TIMM."""
    return BACKBONE_REGISTRY.get(cfg.MODEL.BACKBONE.NAME).__module__.startswith("detectron2.")


def stock_model(model: nn.Module, cfg: CfgNode) -> nn.Module:
    """The model of stock_config with the weights of a student, in eval mode."""
    stock = build(stock_config(cfg)).eval()
    stock.load_state_dict(model.state_dict())
    return stock


def _take_over(stock: CfgNode, cfg: CfgNode) -> None:
    """Set every key that stock has to the value of cfg."""
    for key, value in stock.items():
        if isinstance(value, CfgNode):
            _take_over(value, cfg[key])
        else:
            stock[key] = cfg[key]
