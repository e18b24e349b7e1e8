"""A trained detector from its checkpoint and what lies beside it; no data set is needed."""

from collections.abc import Sequence
from dataclasses import dataclass

from detectron2.config import CfgNode
from torch import nn

from common.checkpoint import load_complete
from common.trained import locate
from det.building import build
from det.config import without_distillation
from det.data import class_labels, register_coco_format
from det.training import read_config


@dataclass(frozen=True)
class Trained:
    """A plain Detectron2 model in eval mode, its config without a teacher, and the names of its classes."""

    cfg: CfgNode
    model: nn.Module
    classes: tuple[str, ...]


def load_trained(weights: str, config_file: str = "", overrides: Sequence[str] = (), key: str = "--weights") -> Trained:
    """
    Args:
        weights: a checkpoint, or the OUTPUT_DIR of a finished training.
        config_file: default: the config.yaml beside the weights.
        key: what names the weights, for messages.

    Raises:
        UserError: files that are missing, wrong, or do not belong together.
    """
    weights, config_file = locate(weights, config_file, key)
    cfg = without_distillation(read_config(config_file, list(overrides)))
    register_coco_format(cfg)
    model = build(cfg).eval()
    load_complete(model, weights, key, cfg.MODEL.TRUST_PICKLE)
    return Trained(cfg, model, class_labels(cfg))
