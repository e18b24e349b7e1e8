"""The keys that this suite adds to a Detectron2 config."""

from detectron2.config import CfgNode

from densedist.common.config.merge import add_common_keys


def add_distill_config(cfg: CfgNode) -> None:
    """Add the suite's keys to a stock Detectron2 config, in place; every default leaves stock behaviour.

    DISTILL.*: teacher, losses and their weights (see common/config.py).
    DISTILL.TEACHER.CASCADE_STAGES: "first", the cascade teacher's stage 1 only as in the paper, or "mean",
        the logarithm of the stages' mean probabilities.
    DISTILL.DENSE_ROWS: what is a row of a one-stage detector's logits: "anchors" (columns = classes), or
        "locations" (columns = anchors x classes) as in the DIST authors' code.
    DATASETS.COCO_FORMAT: data sets of one's own, a list of [name, JSON file, image folder].
    DATASETS.CLASSES: their names, by number. Empty: those of the data sets; the config.yaml of a run has them.
    DATASETS.DROP_BAD_BOXES: train without the boxes of no area or outside of their image, which are otherwise
        refused.
    MODEL.TIMM.*: used by MODEL.BACKBONE.NAME build_timm_fpn_backbone (see det/backbone.py).
    """
    add_common_keys(cfg)
    cfg.DISTILL.TEACHER.CASCADE_STAGES = "first"
    cfg.DISTILL.DENSE_ROWS = "anchors"
    cfg.DATASETS.COCO_FORMAT = []
    cfg.DATASETS.CLASSES = []
    cfg.DATASETS.DROP_BAD_BOXES = False
    cfg.MODEL.TIMM = CfgNode({"NAME": "resnet18", "PRETRAINED": False, "NORM": "BN"})
    cfg.MODEL.TIMM.ARGS = CfgNode(new_allowed=True)


def count_classes(cfg: CfgNode) -> tuple[int, str]:
    """The number of classes of the config's detector, and the key that says so."""
    head = "RETINANET" if "RetinaNet" in cfg.MODEL.META_ARCHITECTURE else "ROI_HEADS"
    return cfg.MODEL[head].NUM_CLASSES, f"MODEL.{head}.NUM_CLASSES"


def without_distillation(cfg: CfgNode) -> CfgNode:
    """A copy of cfg that builds the plain student: no teacher, nothing to load it from."""
    plain = cfg.clone()
    plain.defrost()
    plain.DISTILL.TEACHER.CONFIG_FILE = plain.DISTILL.TEACHER.WEIGHTS = ""
    return plain
