"""The keys that this suite adds to a Detectron2 config."""

from detectron2.config import CfgNode

from common.config import add_common_keys


def add_distill_config(cfg: CfgNode) -> None:
    """Add the suite's keys to a stock Detectron2 config, in place; every default leaves stock behaviour.

    DISTILL.*: teacher, losses and their weights (see common/config.py).
    DISTILL.TEACHER.CASCADE_STAGES: "first", the cascade teacher's stage 1 only as in the paper, or "mean",
        the logarithm of the stages' mean probabilities.
    DATASETS.COCO_FORMAT: data sets of one's own, a list of [name, JSON file, image folder].
    MODEL.TIMM.*: used by MODEL.BACKBONE.NAME build_timm_fpn_backbone (see det/backbone.py).
    """
    add_common_keys(cfg)
    cfg.DISTILL.TEACHER.CASCADE_STAGES = "first"
    cfg.DATASETS.COCO_FORMAT = []
    cfg.MODEL.TIMM = CfgNode({"NAME": "resnet18", "PRETRAINED": False, "NORM": "BN"})
    cfg.MODEL.TIMM.ARGS = CfgNode(new_allowed=True)


def without_distillation(cfg: CfgNode) -> CfgNode:
    """A copy of cfg that builds the plain student: no teacher, nothing to load it from."""
    plain = cfg.clone()
    plain.defrost()
    plain.DISTILL.TEACHER.CONFIG_FILE = plain.DISTILL.TEACHER.WEIGHTS = ""
    return plain
