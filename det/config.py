"""The keys that this suite adds to a Detectron2 config, and what of Detectron2's own is checked."""

from collections.abc import Mapping

from detectron2.config import CfgNode, get_cfg

from densedist.common.config import COMMON, Grammar, Key, add_keys, one_of
from densedist.common.config.former_keys import FORMER
from densedist.common.config.keys import STOCK
from densedist.common.distill.registry import loss_keys
from densedist.det.data.samplers import SAMPLERS, is_factors
from densedist.det.modeling.inheriting import PARTS


def _off(value: object, what: str) -> Key:
    """A key that Detectron2's own tools obey and nothing here would."""
    words = f"{value}, for nothing here does {what}; Detectron2's own tools/train_net.py does"
    return Key(STOCK, lambda given: given == value, words)


DET: Mapping[str, Key] = {
    "TASK": one_of("det"),
    # Of a cascade teacher: stage 1 only as in the paper, or the logarithm of the stages' mean probabilities.
    "DISTILL.TEACHER.CASCADE_STAGES": one_of("first", "mean"),
    # DISTILL.TEACHER.CACHE keeps the maps of the teacher's backbone, not a two-stage teacher's boxes.
    "DISTILL.TEACHER.CACHE_MAPS": Key(False),
    # Parts of the teacher that the student starts from, of neck and head, where shapes agree: see
    # det/modeling/inheriting.py. Tensors that MODEL.WEIGHTS has come after it.
    "DISTILL.INHERIT": Key([], lambda parts: set(parts) <= set(PARTS), "any of neck, head"),
    # What is a row of a one-stage detector's logits: anchors (columns = classes), or locations (columns = anchors x
    # classes) as in the DIST authors' code.
    "DISTILL.DENSE_ROWS": one_of("anchors", "locations"),
    # Data sets of one's own (det/data/registering.py), lists of these:
    "DATASETS.COCO_FORMAT": Key([]),  # [name, JSON file, image folder], or lists of files and of folders
    "DATASETS.YOLO_FORMAT": Key([]),  # [name, data.yaml, split]
    "DATASETS.VOC_FORMAT": Key([]),  # [name, folder, split]
    # Their names, by number. Empty: those of the data sets; the config.yaml of a run has them.
    "DATASETS.CLASSES": Key([]),
    # Train without the boxes of no area or outside of their image, which are otherwise refused.
    "DATASETS.DROP_BAD_BOXES": Key(False),
    "INPUT.FORMAT": Key(STOCK, lambda value: value in ("BGR", "RGB"), "BGR or RGB"),
    "DATALOADER.SAMPLER_TRAIN": Key(STOCK, lambda value: value in SAMPLERS, ", ".join(SAMPLERS)),
    # Of RandomSubsetTrainingSampler: the share of images; of those whose names begin with Weighted: [data set, factor].
    "DATALOADER.RANDOM_SUBSET_RATIO": Key(0.0, lambda value: 0 <= value <= 1, "a share, 0 (not set) to 1"),
    "DATASETS.TRAIN_REPEAT_FACTOR": Key([], is_factors, "a list of [data set, factor above 0]"),
    # Used by MODEL.BACKBONE.NAME build_timm_fpn_backbone (det/modeling/backbone.py).
    "MODEL.TIMM.NAME": Key("resnet18"),
    "MODEL.TIMM.PRETRAINED": Key(False),
    "MODEL.TIMM.NORM": one_of("BN", "SyncBN", "FrozenBN"),
    "MODEL.TIMM.ARGS": Key(CfgNode(new_allowed=True)),
    # How data sets of one's own are scored: by COCO's rules, or by Pascal VOC's of a year (det/evaluators.py).
    "TEST.RULES": one_of("own", "voc2007", "voc2012"),
    "TEST.AUG.ENABLED": _off(False, "test-time augmentation"),
    "TEST.PRECISE_BN.ENABLED": _off(False, "precise batch norm"),
    "TEST.EXPECTED_RESULTS": _off([], "a check of results"),
    "SOLVER.REFERENCE_WORLD_SIZE": _off(0, "scaling with the number of processes"),
}


def keys() -> dict[str, Key]:
    """All keys that are added to Detectron2's or checked, with those of the losses that there are now."""
    return {**COMMON, **loss_keys(), **DET}


GRAMMAR = Grammar(get_cfg, keys)


def add_distill_config(cfg: CfgNode) -> None:
    """Add the suite's keys to a stock Detectron2 config, in place; every default leaves stock behavior."""
    add_keys(cfg, keys())
    for name in FORMER:  # Detectron2's merge_from_file ignores them with a warning, as in an old run's config.yaml
        cfg.register_deprecated_key(name)


def without_distillation(cfg: CfgNode) -> CfgNode:
    """A copy of cfg that builds the plain student for weights to come: no teacher, nothing asked of the network."""
    plain = cfg.clone()
    plain.defrost()
    plain.DISTILL.TEACHER.CONFIG_FILE = plain.DISTILL.TEACHER.WEIGHTS = ""
    plain.MODEL.TIMM.PRETRAINED = False
    return plain
