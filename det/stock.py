"""A trained student as stock Detectron2 has it: without this suite's classes and keys."""

from detectron2.config import CfgNode, get_cfg
from torch import nn

from densedist.det.distilling import distilling_class
from densedist.det.models import build

TIMM_BACKBONE = "build_timm_fpn_backbone"  # the one part of a student that stock Detectron2 has not


def stock_config(cfg: CfgNode) -> CfgNode:
    """The config of the plain model in Detectron2's own keys, and MODEL.TIMM where its backbone is one of timm's."""
    stock = get_cfg()
    _take_over(stock, cfg)
    kind = distilling_class(cfg.MODEL.META_ARCHITECTURE)
    stock.MODEL.META_ARCHITECTURE = kind.stock.__name__ if kind else cfg.MODEL.META_ARCHITECTURE
    stock.MODEL.WEIGHTS = ""
    if is_timm(cfg):
        stock.MODEL.TIMM = cfg.MODEL.TIMM.clone()
    return stock


def is_timm(cfg: CfgNode) -> bool:
    """Whether the model needs this suite's backbone."""
    return cfg.MODEL.BACKBONE.NAME == TIMM_BACKBONE


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
