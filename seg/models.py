"""A trained segmentation model from its checkpoint and what lies beside it; no data set is needed."""

from collections.abc import Sequence
from dataclasses import dataclass

from detectron2.config import CfgNode

from densedist.common.engine.locate import locate
from densedist.seg.config import without_distillation
from densedist.seg.labels import Classes
from densedist.seg.network import load_network
from densedist.seg.segmenter import Segmenter, around
from densedist.seg.task import load_config


@dataclass(frozen=True)
class Trained:
    """A model in eval mode (an SMP model is its .network.smp), its config without a teacher, and its classes."""

    cfg: CfgNode
    model: Segmenter
    classes: Classes


def load_trained(weights: str, config_file: str = "", overrides: Sequence[str] = (), key: str = "--weights") -> Trained:
    """
    Args:
        weights: a checkpoint, the OUTPUT_DIR of a finished training, or a folder of SMP's save_pretrained.
        config_file: default: the config.yaml beside the weights.
        key: what names the weights, for messages.

    Raises:
        UserError: files that are missing, wrong, or do not belong together.
    """
    weights, config_file = locate(weights, config_file, key)
    cfg = without_distillation(load_config(config_file, list(overrides)))
    return Trained(cfg, around(load_network(cfg, weights, key), cfg).eval(), Classes.of(cfg))
