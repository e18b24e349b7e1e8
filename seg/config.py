"""The keys of a segmentation config: Detectron2's names and grammar, SMP's models."""

from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode
from detectron2.config import get_cfg as get_detectron2_cfg

from densedist.common.config import COMMON, Grammar, Key, at_least, every, one_of
from densedist.common.config.formats import format_keys
from densedist.common.config.keys import above, needing, of_all, up_to_one
from densedist.common.data.sides import WITHOUT_TRUTH
from densedist.common.distill.registry import loss_keys
from densedist.common.foreign.keys import kind_keys
from densedist.seg.class_weights import BALANCES
from densedist.seg.data.formats import FORMATS
from densedist.seg.data.frames import KINDS
from densedist.seg.networks.dense import SMP


def _numbers(*default: float, meaning: str) -> Key:
    return Key(list(default), lambda values: len(values) == len(default), "three numbers", meaning=meaning)


def _size(default: list[int], words: str, meaning: str, may_be_empty: bool = False) -> Key:
    def allowed(value: list[int]) -> bool:
        return (may_be_empty and not value) or (len(value) == 2 and min(value) >= 1)

    return Key(default, allowed, words, meaning=meaning)


def _is_weight(value: Any) -> bool:
    return isinstance(value, (int, float)) and value >= 0


def _weight(default: float, meaning: str) -> Key:
    return at_least(0, default, "0 (off) or more", meaning)


def _scales(meaning: str) -> Key:
    return every(above(0, 1.0), [1.0], "numbers above 0", meaning)


RUN: Mapping[str, Key] = {
    "TASK": one_of("seg", meaning="The task that a config is for."),
    "SEED": Key(-1, meaning="Seed of all random numbers; below 0: a new one each time."),
    "CUDNN_BENCHMARK": Key(False, meaning="Let cuDNN try which convolution is fastest; not deterministic."),
}

MODEL: Mapping[str, Key] = {
    "MODEL.DEVICE": Key("cuda", meaning="cuda, cuda:0 or cpu; cuda becomes cpu where there is no GPU."),
    "MODEL.WEIGHTS": Key(
        "",
        meaning="Checkpoint, or folder of save_pretrained, to start from or to evaluate. A checkpoint to start from "
        "may fit in part, and the plan says which; one that fills less than three quarters of the encoder is refused.",
    ),
    "MODEL.ARCHITECTURE": Key("DeepLabV3", meaning="Any architecture of SMP."),
    "MODEL.ENCODER.NAME": Key("resnet18", meaning="Any encoder of SMP; tu-NAME is any of timm's."),
    "MODEL.ENCODER.WEIGHTS": Key("", meaning="Weights that the encoder starts from, as imagenet; empty = random."),
    "MODEL.ENCODER.DEPTH": at_least(1, default=5, meaning="Stages of the encoder."),
    "MODEL.ENCODER.OUTPUT_STRIDE": Key(
        0,
        lambda stride: stride in (0, 8, 16, 32),
        "8, 16 or 32, or 0 for the architecture's own",
        meaning="Stride of the encoder's last map; 8 and 16 are dilated.",
    ),
    "MODEL.ARGS": Key(
        CfgNode(new_allowed=True), meaning="More arguments of the architecture, as {decoder_channels: 128}."
    ),
    "MODEL.AUX_HEAD.ENABLED": Key(False, meaning="Add an FCN head on the second-to-last stage, for training."),
    "MODEL.AUX_HEAD.LOSS_WEIGHT": at_least(0, default=0.4, meaning="Weight of the auxiliary head's losses."),
    "MODEL.SYNC_BN": Key(True, meaning="Compute batch norm over the batch of all processes."),
    "MODEL.PIXEL_MEAN": _numbers(
        123.675,
        116.28,
        103.53,
        meaning="Mean of each channel in the order of INPUT.FORMAT, for pixels of 0 to 255; the default is ImageNet's.",
    ),
    "MODEL.PIXEL_STD": _numbers(58.395, 57.12, 57.375, meaning="Deviation of each channel, 1 or more."),
}

LOSS: Mapping[str, Key] = {
    "MODEL.LOSS.CROSS_ENTROPY.WEIGHT": _weight(1.0, "Weight of the cross entropy with the labels."),
    "MODEL.LOSS.OHEM.WEIGHT": _weight(0.0, "Weight of the cross entropy of hard pixels alone."),
    "MODEL.LOSS.OHEM.THRESHOLD": Key(
        0.7,
        lambda p: 0 < p <= 1,
        "a probability: above 0, 1 at most",
        meaning="A pixel is hard where the probability of its class is below this.",
    ),
    "MODEL.LOSS.OHEM.MIN_KEPT": at_least(
        1, default=100_000, meaning="At least this many pixels count, for each labeled image."
    ),
    "MODEL.LOSS.FOCAL.WEIGHT": _weight(0.0, "Weight of the focal loss."),
    "MODEL.LOSS.FOCAL.GAMMA": at_least(0, default=2.0, meaning="Exponent of the focal loss; 0 is cross entropy."),
    "MODEL.LOSS.DICE.WEIGHT": _weight(0.0, "Weight of the Dice loss."),
    "MODEL.LOSS.LOVASZ.WEIGHT": _weight(0.0, "Weight of the Lovász softmax loss."),
    "MODEL.CLASS_WEIGHTS": Key(
        [],
        lambda values: all(map(_is_weight, values)),
        "numbers of 0 or more",
        meaning="Weight of each class in CROSS_ENTROPY, OHEM and FOCAL; empty = all 1.",
    ),
    "MODEL.CLASS_BALANCE": one_of(
        "none", *BALANCES, meaning="Compute CLASS_WEIGHTS from how often each class occurs in the labels."
    ),
}

DATA: Mapping[str, Key] = {
    "INPUT.FORMAT": one_of("RGB", "BGR", meaning="Channel order of the student's images."),
    "INPUT.SCALES": _scales("A training image is resized by one of these factors, drawn at random."),
    "INPUT.CROP_SIZE": _size([512, 1024], "[height, width]", "Size of a training sample."),
    "INPUT.RANDOM_FLIP": one_of(
        "none",
        "horizontal",
        default="horizontal",
        meaning="Mirror half of the training images.",
    ),
    "PSEUDO_LABELS.CUTMIX": needing(
        up_to_one(
            0.0,
            "a probability, 0 to 1",
            meaning="Probability that an image of DATASETS.PSEUDO_LABELED or UNLABELED shows a part of another one.",
        ),
        WITHOUT_TRUTH,
    ),
    "DATASETS.ROOT": Key("", meaning='Folder in Cityscapes\' format, or "digits".'),
    "DATASETS.TRAIN": Key(
        ["train"], meaning="Splits of ROOT, or names of data sets; a part is named like a slice: train[:100]."
    ),
    "DATASETS.TEST": Key(["val"], meaning="Splits or data sets that are evaluated."),
    "DATASETS.CLASSES": Key(
        [],
        meaning="[{name: …, ids: [labelId, …], color: [r, g, b]}, …] in the order of the numbers that are predicted.",
    ),
    "DATASETS.IGNORED_IDS": Key([], meaning="Further labelIds that may occur; such pixels have no label."),
    "DATASETS.LABELS": one_of(*KINDS, meaning="Which label images of ROOT are read, by the end of their names."),
    "DATASETS.IGNORED_COLORS": Key(
        [], meaning="Further colors, [r, g, b], that may occur in masks; such pixels have no label."
    ),
    "DATALOADER.NUM_WORKERS": at_least(
        0, default=4, meaning="Processes that read images, for each training process; at most one a core."
    ),
}

TEST: Mapping[str, Key] = {
    "TEST.EVAL_PERIOD": at_least(0, default=0, meaning="Iterations between evaluations; 0 = only at the end."),
    "TEST.SCALES": _scales("Scales of the image over which probabilities are averaged."),
    "TEST.FLIP": Key(False, meaning="Average also over the mirror image."),
    "TEST.WINDOW_SIZE": _size(
        [],
        "[height, width], or [] for the whole image",
        "Predict in sliding windows of this size; empty = the whole image at once.",
        may_be_empty=True,
    ),
    "TEST.WINDOW_OVERLAP": Key(
        0.5,
        lambda overlap: 0 <= overlap < 1,
        "a number from 0 to below 1",
        meaning="Least share of a window that the next one overlaps.",
    ),
    "TEST.SAVE_LABEL_IDS": Key(False, meaning="Write predictions as labelIds PNG files, for Cityscapes' server."),
}

KIND: Mapping[str, Key] = kind_keys(
    SMP,
    "What the model is. Only smp, which the other keys here describe, is trained; the others teach, label and are "
    "evaluated.",
)

TEACHER: Mapping[str, Key] = {
    "DISTILL.TEACHER.KEPT_MASS": of_all(
        up_to_one(
            0.5,
            "a number from 0 to 1",
            meaning="A pixel teaches if the classes that both know have this share of the teacher's probability.",
        )
    ),
    "DISTILL.TEACHER.CACHE_BITS": of_all(
        Key(
            16,
            lambda bits: bits in (8, 16),
            "8 or 16",
            meaning="Bits of a logit in CACHE; 8 moves no class probability by more than 0.01.",
        )
    ),
    "DISTILL.IGNORED_PIXELS": Key(
        True, meaning="Distill also on pixels that the label ignores, as the DIST authors do."
    ),
    "DISTILL.LOGITS_STRIDE": at_least(
        0,
        default=0,
        words="0 (the student's own) or more",
        meaning="Stride, in pixels, at which class logits are compared; 1 is each pixel, 0 the student's own map.",
    ),
}

SEG: Mapping[str, Key] = {**RUN, **MODEL, **KIND, **LOSS, **DATA, **TEST, **TEACHER}


def keys() -> dict[str, Key]:
    """Return all keys, with those of the registered losses and formats."""
    return {**COMMON, **loss_keys(), **SEG, **format_keys(FORMATS)}


def _base() -> CfgNode:
    stock, cfg = get_detectron2_cfg(), CfgNode()
    cfg.VERSION, cfg.OUTPUT_DIR = stock.VERSION, stock.OUTPUT_DIR
    cfg.SOLVER = stock.SOLVER.clone()
    del cfg.SOLVER["REFERENCE_WORLD_SIZE"]  # nothing here reads it
    return cfg


GRAMMAR = Grammar(_base, keys)


def get_cfg() -> CfgNode:
    """Return a config with every key and its default."""
    return GRAMMAR.config()


def without_distillation(cfg: CfgNode) -> CfgNode:
    """Return a copy of a config that builds the plain student: no teacher, no auxiliary head."""
    plain = cfg.clone()
    plain.defrost()
    plain.DISTILL.TEACHER.CONFIG_FILE = plain.DISTILL.TEACHER.WEIGHTS = ""
    plain.MODEL.AUX_HEAD.ENABLED = False
    return plain
