"""The keys of a detection config: those that this suite adds to Detectron2's, and Detectron2's own that it uses."""

from collections.abc import Mapping

from detectron2.config import CfgNode, get_cfg

from densedist.common.config import COMMON, Grammar, Key, add_keys, at_least, one_of
from densedist.common.config.formats import format_keys
from densedist.common.config.former_keys import FORMER
from densedist.common.config.keys import STOCK, needing, of_all, up_to_one
from densedist.common.data.sides import PSEUDO, WITHOUT_TRUTH
from densedist.common.distill.registry import loss_keys
from densedist.common.foreign.keys import kind_keys
from densedist.det.data.augmentations import SIDES, is_scale_jitter
from densedist.det.data.formats import FORMATS
from densedist.det.data.samplers import SAMPLERS, is_factors
from densedist.det.modeling.inheriting import PARTS


def _stock(meaning: str) -> Key:
    """Return a key that Detectron2 has, whose values it or the model checks."""
    return Key(STOCK, meaning=meaning)


def _off(value: object, what: str) -> Key:
    """Return a key that Detectron2's own tools obey and nothing here would."""
    words = f"{value}, as {what} is only in Detectron2's own tools/train_net.py"
    return Key(STOCK, lambda given: given == value, words, meaning=f"Not supported here: {what}.")


DETECTRON2 = "detectron2"  # MODEL.KIND of a model that Detectron2 builds

RUN: Mapping[str, Key] = {
    "TASK": one_of("det", meaning="The task that a config is for."),
    "SEED": _stock("Seed of all random numbers; below 0: a new one each time."),
    "CUDNN_BENCHMARK": _stock("Let cuDNN try which convolution is fastest; not deterministic."),
}

MODEL: Mapping[str, Key] = {
    "MODEL.META_ARCHITECTURE": _stock("DistillRCNN or DistillRetinaNet; any other of Detectron2's is not distilled."),
    "MODEL.WEIGHTS": _stock(
        "Checkpoint to start from, or to evaluate. One to start from may fit in part, as with other classes or a "
        "backbone alone, and the plan says which; one that fills less than three quarters of the backbone is refused."
    ),
    "MODEL.DEVICE": _stock("cuda, cuda:0 or cpu; cuda becomes cpu where there is no GPU."),
    "MODEL.PIXEL_MEAN": _stock("Mean of each channel in the order of INPUT.FORMAT, for pixels of 0 to 255."),
    "MODEL.PIXEL_STD": _stock("Deviation of each channel, 1 or more."),
    "MODEL.MASK_ON": _stock("Train and predict masks."),
    "MODEL.KEYPOINT_ON": _stock("Train and predict keypoints."),
    "MODEL.BACKBONE.NAME": _stock(
        "Detectron2's backbones, or build_timm_fpn_backbone, build_timm_retinanet_fpn_backbone."
    ),
    "MODEL.BACKBONE.FREEZE_AT": _stock("Number of stages that are not trained."),
    "MODEL.TIMM.NAME": Key("resnet18", meaning="The model of a timm backbone."),
    "MODEL.TIMM.PRETRAINED": Key(False, meaning="Start from timm's weights, from an installed package or a download."),
    "MODEL.TIMM.NORM": one_of("BN", "SyncBN", "FrozenBN", meaning="Normalization of a timm backbone."),
    "MODEL.TIMM.ARGS": Key(
        CfgNode(new_allowed=True), meaning="More arguments of the timm model, as {channels: [16, 32, 64, 128]}."
    ),
    "MODEL.FPN.IN_FEATURES": _stock("Maps of the backbone that the pyramid is built on, as res2 to res5."),
    "MODEL.FPN.OUT_CHANNELS": _stock("Channels of the pyramid's maps."),
    "MODEL.ANCHOR_GENERATOR.SIZES": _stock("Sizes of anchors for each map; a teacher's anchors must be the same."),
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": _stock("Ratios of height to width of anchors."),
    "MODEL.PROPOSAL_GENERATOR.NAME": _stock("RPN; PrecomputedProposals has no distillation without labels."),
    "MODEL.LOAD_PROPOSALS": _stock("Read proposals from DATASETS.PROPOSAL_FILES_TRAIN and _TEST."),
    "MODEL.ROI_HEADS.NUM_CLASSES": _stock("Number of classes of a two-stage detector, without background."),
    "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE": _stock("Classify RoIs by sigmoids; the background is not distilled then."),
    "MODEL.RETINANET.NUM_CLASSES": _stock("Number of classes of a RetinaNet."),
}

DATA: Mapping[str, Key] = {
    "INPUT.FORMAT": one_of("BGR", "RGB", default=STOCK, meaning="Channel order of the student's images."),
    "INPUT.MIN_SIZE_TRAIN": _stock("Length of the shortest edge of training images, or several to draw from."),
    "INPUT.MAX_SIZE_TRAIN": _stock("Largest length of the longest edge of a training image."),
    "INPUT.MIN_SIZE_TEST": _stock("Length of the shortest edge of test images."),
    "INPUT.MAX_SIZE_TEST": _stock("Largest length of the longest edge of a test image."),
    "INPUT.RANDOM_FLIP": one_of(
        "none", "horizontal", "vertical", default=STOCK, meaning="How half of the training images are mirrored."
    ),
    "INPUT.CROP.ENABLED": _stock("Train on crops."),
    "INPUT.SCALE_JITTER": Key(
        [],
        is_scale_jitter,
        SIDES,
        meaning="Large-scale jitter, in place of MIN_SIZE_TRAIN: a training image is resized to fit height and width "
        "times a scale, and cropped to them.",
    ),
    "PSEUDO_LABELS.MOSAIC": needing(
        up_to_one(
            0.0,
            "a probability, 0 to 1",
            meaning="Probability that an image of DATASETS.PSEUDO_LABELED or UNLABELED is shown with three more in "
            "one.",
        ),
        WITHOUT_TRUTH,
    ),
    "PSEUDO_LABELS.MAX_BOX_VARIANCE": needing(
        at_least(
            0,
            0.0,
            "0 (not used) or more",
            "Boxes of a larger variance under jitter teach their class, and no position; Soft Teacher has 0.02; 0 = "
            "all teach both. Labels need `label --box-variance`.",
        ),
        PSEUDO,
    ),
    "INPUT.MASK_FORMAT": _stock("polygon or bitmask."),
    "DATASETS.TRAIN": _stock("Names of data sets with labels; a part is named like a slice: mine_train[:100]."),
    "DATASETS.TEST": _stock("Names of data sets that are evaluated."),
    "DATASETS.CLASSES": Key([], meaning="Names of the classes, by number; empty = those of the data sets."),
    "DATASETS.DROP_BAD_BOXES": Key(
        False, meaning="Train without boxes that have no area or lie outside of their image; else they are refused."
    ),
    "DATASETS.PROPOSAL_FILES_TRAIN": _stock("Proposals for each data set of TRAIN."),
    "DATASETS.PROPOSAL_FILES_TEST": _stock("Proposals for each data set of TEST."),
    "DATASETS.TRAIN_REPEAT_FACTOR": Key(
        [],
        is_factors,
        "a list of [data set, factor above 0]",
        meaning="How often a data set is drawn by the samplers whose names begin with Weighted.",
    ),
    "DATALOADER.SAMPLER_TRAIN": one_of(*SAMPLERS, default=STOCK, meaning="How training images are drawn."),
    "DATALOADER.RANDOM_SUBSET_RATIO": up_to_one(
        0.0,
        "a share, 0 (not set) to 1",
        meaning="Share of the images that RandomSubsetTrainingSampler draws from.",
    ),
    "DATALOADER.REPEAT_THRESHOLD": _stock("Frequency below which RepeatFactorTrainingSampler repeats a class."),
    "DATALOADER.FILTER_EMPTY_ANNOTATIONS": _stock("Train without images that have no object."),
    "DATALOADER.ASPECT_RATIO_GROUPING": _stock("Make batches of images of similar aspect ratio."),
}

TEST: Mapping[str, Key] = {
    "TEST.RULES": one_of(
        "own", "voc2007", "voc2012", meaning="How your data sets are scored: own = COCO's rules, or Pascal VOC's."
    ),
    "TEST.DETECTIONS_PER_IMAGE": _stock("Largest number of detections of an image."),
    "TEST.KEYPOINT_OKS_SIGMAS": _stock("COCO's sigmas of your own keypoints."),
    "TEST.AUG.ENABLED": _stock(
        "Use several sizes of each image in label, predict, eval and at the end of a run (bbox_TTA in results.json)."
    ),
    "TEST.AUG.MIN_SIZES": Key(
        STOCK,
        lambda sizes: bool(sizes) and all(isinstance(size, int) and size > 0 for size in sizes),
        "whole numbers above 0",
        meaning="Lengths of the shortest edge; the image is what INPUT.MIN_SIZE_TEST makes of it.",
    ),
    "TEST.AUG.MAX_SIZE": at_least(1, meaning="Largest length of the longest edge."),
    "TEST.AUG.FLIP": _stock("Also mirrored, in each size."),
    "TEST.PRECISE_BN.ENABLED": _off(False, "precise batch norm"),
    "TEST.EXPECTED_RESULTS": _off([], "a check of results"),
    "SOLVER.REFERENCE_WORLD_SIZE": _off(0, "scaling with the number of processes"),
}

KIND: Mapping[str, Key] = kind_keys(
    DETECTRON2,
    "What the model is. Only detectron2, which the other keys here describe, is trained and distilled; the others "
    "label, predict and are evaluated.",
)

TEACHER: Mapping[str, Key] = {
    "DISTILL.TEACHER.CASCADE_STAGES": one_of(
        "first", "mean", meaning="Class logits of a cascade: of stage 1 as in the paper, or of the stages' mean."
    ),
    "DISTILL.TEACHER.CACHE_MAPS": of_all(
        Key(False, meaning="Keep the maps of the teacher's backbone in CACHE, not a two-stage teacher's boxes.")
    ),
    "DISTILL.INHERIT": Key(
        [],
        lambda parts: set(parts) <= set(PARTS),
        "any of neck, head",
        meaning="Parts that the student takes from the teacher, where shapes agree; MODEL.WEIGHTS is loaded later.",
    ),
    "DISTILL.DENSE_ROWS": one_of(
        "anchors",
        "locations",
        meaning="Rows of a one-stage detector's logits: anchors (columns are classes), or locations (columns are "
        "anchors x classes) as in the DIST authors' code.",
    ),
}

DET: Mapping[str, Key] = {**RUN, **MODEL, **KIND, **DATA, **TEST, **TEACHER}


def keys() -> dict[str, Key]:
    """Return all keys that are added to Detectron2's, checked or documented, with those of the losses and formats."""
    return {**COMMON, **loss_keys(), **DET, **format_keys(FORMATS)}


GRAMMAR = Grammar(get_cfg, keys)


def add_distill_config(cfg: CfgNode) -> None:
    """Add the suite's keys to a stock Detectron2 config, in place; every default leaves stock behavior."""
    add_keys(cfg, keys())
    for name in FORMER:  # Detectron2's merge_from_file ignores them with a warning, as in an old run's config.yaml
        cfg.register_deprecated_key(name)


def keeps_boxes(cfg: CfgNode) -> bool:
    """Return whether DISTILL.TEACHER.CACHE keeps a teacher's boxes, and not its maps."""
    return bool(cfg.DISTILL.TEACHER.CACHE) and not cfg.DISTILL.TEACHER.CACHE_MAPS


def without_distillation(cfg: CfgNode) -> CfgNode:
    """Return a copy of a config that builds the plain student, to fill with weights: no teacher, no download."""
    plain = cfg.clone()
    plain.defrost()
    plain.DISTILL.TEACHER.CONFIG_FILE = plain.DISTILL.TEACHER.WEIGHTS = ""
    plain.MODEL.TIMM.PRETRAINED = False
    return plain
