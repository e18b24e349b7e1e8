"""The keys of a segmentation config: Detectron2's names and grammar, SMP's models."""

from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode
from detectron2.config import get_cfg as get_detectron2_cfg

from densedist.common.config import COMMON, Grammar, Key, at_least, every, one_of
from densedist.common.config.keys import above
from densedist.common.distill.registry import loss_keys
from densedist.seg.class_weights import BALANCES
from densedist.seg.data.frames import KINDS
from densedist.seg.foreign.kinds import KINDS as MODEL_KINDS


def _numbers(*default: float) -> Key:
    return Key(list(default), lambda values: len(values) == len(default), "three numbers")


def _size(default: list[int], words: str, may_be_empty: bool = False) -> Key:
    def allowed(value: list[int]) -> bool:
        return (may_be_empty and not value) or (len(value) == 2 and min(value) >= 1)

    return Key(default, allowed, words)


def _is_jitter(values: list[Any]) -> bool:
    return len(values) == 4 and all(map(_is_weight, values)) and values[-1] <= 0.5


def _is_weight(value: Any) -> bool:
    return isinstance(value, (int, float)) and value >= 0


def _weight(default: float) -> Key:
    return at_least(0, default, "0 (off) or more")


SCALES = every(above(0, 1.0), [1.0], "numbers above 0")

SEG: Mapping[str, Key] = {
    "TASK": one_of("seg"),
    "SEED": Key(-1),  # below 0: another one each time
    "CUDNN_BENCHMARK": Key(False),
    "MODEL.DEVICE": Key("cuda"),
    "MODEL.WEIGHTS": Key(""),  # to start from, or to evaluate: a checkpoint, or a folder of SMP's save_pretrained
    "MODEL.ARCHITECTURE": Key("DeepLabV3"),  # any of SMP's
    # smp: the keys below say what it is. Others are not trained here, but teach, label and are evaluated (seg/foreign).
    "MODEL.KIND": one_of(*MODEL_KINDS),
    "MODEL.STRIDE": at_least(1, default=32),  # of a program or function: height and width of its images are multiples
    "MODEL.ENCODER.NAME": Key("resnet18"),  # any of SMP's; "tu-…" is any of timm's
    "MODEL.ENCODER.WEIGHTS": Key(""),  # e.g. imagenet; empty = random
    "MODEL.ENCODER.DEPTH": at_least(1, default=5),
    # 8 or 16 = dilated; 0 = what the architecture does by default
    "MODEL.ENCODER.OUTPUT_STRIDE": Key(
        0, lambda stride: stride in (0, 8, 16, 32), "8, 16 or 32, or 0 for the architecture's own"
    ),
    "MODEL.ARGS": Key(CfgNode(new_allowed=True)),  # more arguments of the architecture, e.g. decoder_channels
    "MODEL.AUX_HEAD.ENABLED": Key(False),  # an FCN head on the last stage but one
    "MODEL.AUX_HEAD.LOSS_WEIGHT": at_least(0, default=0.4),
    # What is learned from labels: the sum of these, each times its WEIGHT, of the auxiliary head, too (seg/losses).
    "MODEL.LOSS.CROSS_ENTROPY.WEIGHT": _weight(1.0),
    "MODEL.LOSS.OHEM.WEIGHT": _weight(0.0),  # cross entropy of the hard pixels alone
    # Hard is where the probability of a pixel's class is below it; of each image at least so many pixels, on average.
    "MODEL.LOSS.OHEM.THRESHOLD": Key(0.7, lambda p: 0 < p <= 1, "a probability: above 0, 1 at most"),
    "MODEL.LOSS.OHEM.MIN_KEPT": at_least(1, default=100_000),
    "MODEL.LOSS.FOCAL.WEIGHT": _weight(0.0),
    "MODEL.LOSS.FOCAL.GAMMA": at_least(0, default=2.0),
    "MODEL.LOSS.DICE.WEIGHT": _weight(0.0),
    "MODEL.LOSS.LOVASZ.WEIGHT": _weight(0.0),
    # One for each class, of cross entropy, also of the hard pixels or focal; empty = all 1.
    "MODEL.CLASS_WEIGHTS": Key([], lambda values: all(map(_is_weight, values)), "numbers of 0 or more"),
    "MODEL.CLASS_BALANCE": one_of("none", *BALANCES),  # or these weights from the labels (seg/class_weights.py)
    "MODEL.SYNC_BN": Key(True),  # batch norm over the batch of all processes
    # In the order of INPUT.FORMAT, for pixels of 0 to 255. The default is that of SMP's ImageNet encoders.
    "MODEL.PIXEL_MEAN": _numbers(123.675, 116.28, 103.53),
    "MODEL.PIXEL_STD": _numbers(58.395, 57.12, 57.375),
    "INPUT.FORMAT": one_of("RGB", "BGR"),
    "INPUT.SCALES": SCALES,  # a training image is resized by one of them, drawn at random
    "INPUT.CROP_SIZE": _size([512, 1024], "[height, width]"),  # of a training sample
    "INPUT.RANDOM_FLIP": Key("horizontal", lambda flip: flip in ("none", "horizontal"), "none or horizontal"),
    # Of brightness, contrast, saturation and hue, as torchvision's ColorJitter has them; empty = none.
    "INPUT.COLOR_JITTER": Key(
        [],
        lambda values: not values or _is_jitter(values),
        "[brightness, contrast, saturation, hue], each 0 or more, the last one 0.5 at most; or []",
    ),
    # Transforms of albumentations, [{HorizontalFlip: {p: 0.5}}, {OneOf: {transforms: [{…}, …], p: 1.0}}, …], of the
    # cropped image (seg/data/augmentations.py).
    "INPUT.ALBUMENTATIONS": Key([]),
    "DATASETS.ROOT": Key(""),  # a folder in Cityscapes' form, or "digits"
    # Folders of leftImg8bit. A part of one is named like a slice: train[:100]
    "DATASETS.TRAIN": Key(["train"]),
    "DATASETS.TEST": Key(["val"]),
    # {name, ids: [labelId, …], color: [r, g, b]}, in the order of the trainIds
    "DATASETS.CLASSES": Key([]),
    "DATASETS.IGNORED_IDS": Key([]),  # the other labelIds that may occur
    "DATASETS.LABELS": one_of(*KINDS),  # which label images of ROOT are read: *_gtFine_labelIds.png, …
    # Data sets of one's own, to be named beside the splits of ROOT. A mask has labelIds, the indices of a palette, or
    # the colors of CLASSES.
    "DATASETS.FOLDERS": Key([]),  # [name, folder of images, folder of masks] each
    "DATASETS.VOC_FORMAT": Key([]),  # [name, VOCdevkit/VOC2012, split] each, perhaps with a folder of masks
    "DATASETS.ADE20K_FORMAT": Key([]),  # [name, ADEChallengeData2016, training or validation] each
    "DATASETS.IGNORED_COLORS": Key([]),  # the other colors that may occur in these, [r, g, b] each
    "DATALOADER.NUM_WORKERS": at_least(0, default=4),
    "TEST.EVAL_PERIOD": at_least(0, default=0),
    "TEST.SCALES": SCALES,  # probabilities are averaged over the image at these scales
    "TEST.FLIP": Key(False),  # and over the image and its mirror image
    # Height and width of a sliding window; empty = the whole image at once.
    "TEST.WINDOW_SIZE": _size([], "[height, width], or [] for the whole image", may_be_empty=True),
    # Part of a window that the next one covers again, at least.
    "TEST.WINDOW_OVERLAP": Key(0.5, lambda overlap: 0 <= overlap < 1, "a number from 0 to below 1"),
    "TEST.SAVE_LABEL_IDS": Key(False),  # predictions as labelIds PNG, as Cityscapes' server takes them
    # What the teacher is; auto: as its config or its file says. The keys after it say what neither does.
    "DISTILL.TEACHER.KIND": one_of("auto", *MODEL_KINDS),
    "DISTILL.TEACHER.PIXEL_MEAN": Key([], lambda values: len(values) in (0, 3), "three numbers"),
    "DISTILL.TEACHER.PIXEL_STD": Key([], lambda values: len(values) in (0, 3), "three numbers"),
    "DISTILL.TEACHER.STRIDE": at_least(0, default=0, words="0 (not said) or more"),
    # A pixel teaches only where the teacher gives its classes with a counterpart this much of its probability.
    "DISTILL.TEACHER.KEPT_MASS": Key(0.5, lambda mass: 0 <= mass <= 1, "a number from 0 to 1"),
    # Of each logit in DISTILL.TEACHER.CACHE: float16, or 8, which move no class probability by more than 0.01.
    "DISTILL.TEACHER.CACHE_BITS": Key(16, lambda bits: bits in (8, 16), "8 or 16"),
    "DISTILL.IGNORED_PIXELS": Key(True),  # distill also on pixels that the label ignores, as the authors do
}


def keys() -> dict[str, Key]:
    """All keys but SOLVER's that are only Detectron2's, with those of the losses that there are now."""
    return {**COMMON, **loss_keys(), **SEG}


def _base() -> CfgNode:
    stock, cfg = get_detectron2_cfg(), CfgNode()
    cfg.VERSION, cfg.OUTPUT_DIR = stock.VERSION, stock.OUTPUT_DIR
    cfg.SOLVER = stock.SOLVER.clone()
    del cfg.SOLVER["REFERENCE_WORLD_SIZE"]  # nothing here reads it
    return cfg


GRAMMAR = Grammar(_base, keys)


def get_cfg() -> CfgNode:
    """A config with every key that segmentation knows and its default."""
    return GRAMMAR.config()


def without_distillation(cfg: CfgNode) -> CfgNode:
    """A copy of cfg that builds the plain student: no teacher, no auxiliary head."""
    plain = cfg.clone()
    plain.defrost()
    plain.DISTILL.TEACHER.CONFIG_FILE = plain.DISTILL.TEACHER.WEIGHTS = ""
    plain.MODEL.AUX_HEAD.ENABLED = False
    return plain
