"""The table of keys: for each its default, the values that it may have, and the words that say so."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode

from densedist.common.data.flip_pairs import FORM as PAIRS
from densedist.common.data.flip_pairs import is_pairs
from densedist.common.errors import UserError

STOCK = object()  # a key that Detectron2 has itself, with its own default


@dataclass(frozen=True)
class Key:
    """A key of a config.

    Args:
        default: STOCK = the key and its default are Detectron2's.
        allowed: whether it may have a value; of the type of the default it is anyway.
        words: what is wanted, for "KEY is VALUE: want WORDS".
        trust: whether it lets somebody else's file run code, so that only the user may give it
            (common/config/trust.py).
    """

    default: Any
    allowed: Callable[[Any], bool] = lambda _: True
    words: str = ""
    trust: bool = False


def at_least(least: float, default: Any = STOCK, words: str = "") -> Key:
    """A number that is `least` or more."""
    return Key(default, lambda value: value >= least, words or f"{least:g} or more")


def above(bound: float, default: Any, words: str = "") -> Key:
    """A number above `bound`."""
    return Key(default, lambda value: value > bound, words or f"a number above {bound}")


def one_of(*values: str) -> Key:
    """One of the values, the first by default."""
    *most, last = values
    return Key(values[0], lambda value: value in values, f"{', '.join(most)} or {last}" if most else last)


def every(key: Key, default: Any, words: str) -> Key:
    """A list of at least one value, each of which the key allows."""
    return Key(default, lambda values: bool(values) and all(map(key.allowed, values)), words)


SCHEDULES = ("WarmupPolyLR", "WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR")
PRECISIONS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

# What detection and segmentation share, apart from the keys of the losses (common/distill/registry.py).
COMMON: Mapping[str, Key] = {
    # Modules, or paths of .py files, that are imported before this config is read: a loss, backbone or
    # meta-architecture of one's own (common/config/imports.py).
    "IMPORTS": Key([], lambda names: all(isinstance(name, str) for name in names), "names of modules or .py files"),
    # Import also what another config than the user's own names; for the command line only.
    "TRUST_IMPORTS": Key(False, trust=True),
    # A step, an evaluation and a drawing before the run, to find what cannot work (common/engine/rehearsal.py).
    "REHEARSAL": Key(True),
    "SOLVER.MAX_ITER": at_least(1),
    "SOLVER.IMS_PER_BATCH": at_least(1),
    "SOLVER.UNLABELED_IMS_PER_BATCH": at_least(0, default=0),  # added to IMS_PER_BATCH; 0 = as many again
    "SOLVER.OPTIMIZER": one_of("SGD", "AdamW"),
    "SOLVER.BASE_LR": above(0, STOCK),
    "SOLVER.BASE_LR_END": at_least(0.0),
    "SOLVER.LR_SCHEDULER_NAME": Key(STOCK, lambda name: name in SCHEDULES, ", ".join(SCHEDULES)),
    "SOLVER.POLY_LR_POWER": at_least(0.0, default=0.9),  # of WarmupPolyLR
    "SOLVER.WARMUP_ITERS": at_least(0),
    "SOLVER.AMP.PRECISION": one_of("float16", "bfloat16"),  # where AMP.ENABLED
    # IMS_PER_BATCH is seen in so many parts, and their gradients are averaged.
    "SOLVER.ACCUMULATION_STEPS": at_least(1, default=1),
    # Above 0: an exponential moving average of the weights is evaluated and saved as the student.
    "SOLVER.EMA_DECAY": Key(0.0, lambda value: 0 <= value < 1, "0 (off) to below 1"),
    "SOLVER.MAX_SKIPPED_STEPS": at_least(0, default=0),  # because a loss is not finite; one more ends the run
    "SOLVER.CHECKPOINT_PERIOD": at_least(1),
    "SOLVER.CHECKPOINTS_KEPT": at_least(0, default=3),  # of the numbered ones; 0 = all
    # Classes that are swapped where an image is mirrored, [['left hand', 'right hand'], …] (common/data/flip_pairs.py).
    "INPUT.FLIP_PAIRS": Key([], is_pairs, PAIRS),
    # Data sets whose labels, if there are any, are not looked at: only distillation learns from them.
    "DATASETS.UNLABELED": Key([]),
    "DATALOADER.NUM_WORKERS": at_least(0),
    "DATALOADER.CHECK_FILES": Key(True),  # look at every image file before training (common/data/images.py)
    "TEST.EVAL_PERIOD": at_least(0),
    "TEST.EXAMPLES": at_least(0, default=4),  # test images shown in report.html; 0 = none
    "TRACKERS": Key([], lambda names: set(names) <= {"wandb", "mlflow"}, "any of wandb, mlflow"),
    # Load pickles, TorchScript and programs of torch.export that can run any code.
    "MODEL.TRUST_PICKLE": Key(False, trust=True),
    "DISTILL.TEACHER.CONFIG_FILE": Key(""),  # a path, a name among the packaged configs, or in Detectron2's model zoo
    "DISTILL.TEACHER.WEIGHTS": Key(""),
    # auto: float16 on a GPU, else float32
    "DISTILL.TEACHER.PRECISION": one_of("auto", *PRECISIONS),
    # The order of its channels, where no config of its own says it.
    "DISTILL.TEACHER.FORMAT": Key("", lambda order: order in ("", "RGB", "BGR"), "RGB or BGR"),
    # Its images are made that many times larger, in each direction, than the student's.
    "DISTILL.TEACHER.INPUT_SCALE": above(0, 1.0),
    # {student's class: [teacher's classes]}, where they differ; classes that are not named have the same name. Of
    # programs without names the numbers are the names.
    "DISTILL.TEACHER.CLASSES": Key(CfgNode(new_allowed=True)),
    "DISTILL.TEACHER.MISSING_CLASSES": one_of("refuse", "leave_out"),  # classes that the teacher does not know
    # More teachers, as [{CONFIG_FILE: …, WEIGHTS: …}, …]: their class probabilities are averaged.
    "DISTILL.TEACHER.MORE": Key(
        [], lambda nodes: all(isinstance(n, dict) for n in nodes), "groups of keys, as TEACHER"
    ),
    # A folder: the teacher sees each training image once, whole, and its class logits are kept there (seg/cache.py, of
    # detectors their boxes or maps: det/cache).
    "DISTILL.TEACHER.CACHE": Key(""),
    # torch.compile for what most of a teacher's time goes to; the first steps take longer.
    "DISTILL.TEACHER.COMPILE": Key(False),
    # On a GPU the teacher runs on a stream of its own, beside the student's forward pass.
    "DISTILL.TEACHER.STREAM": Key(False),
    # How much images without labels count: in detection a factor on their losses, which are added to those on labeled
    # images; in segmentation, where one loss is on all images of a batch, on their gradient.
    "DISTILL.UNLABELED_WEIGHT": above(0, 1.0),
    "DISTILL.SYNC": Key(False),  # relations and means over the batch of all processes
    # A factor on all losses of distillation: a linear rise from 0, then constant ("none"), or down to 0.
    "DISTILL.WARMUP_ITERS": at_least(0, default=0, words="0 (none) or more"),
    "DISTILL.DECAY": one_of("none", "linear", "cosine"),
}


def add_keys(cfg: CfgNode, keys: Mapping[str, Key]) -> None:
    """Add keys with their defaults, in place; the groups that they are in are made where they are missing."""
    for name, key in keys.items():
        if key.default is not STOCK:
            *groups, last = name.split(".")
            node = cfg
            for group in groups:
                node = node.setdefault(group, CfgNode())
            node[last] = deepcopy(key.default)


def check_values(cfg: CfgNode, keys: Mapping[str, Key]) -> None:
    """Make sure that every key has a value that it may have.

    Raises:
        UserError: naming the first that has not, its value, and what is wanted.
    """
    for name, key in keys.items():
        value = value_of(cfg, name)
        if not key.allowed(value):
            raise UserError(f"{name} is {value}: want {key.words}")
    solver = cfg.SOLVER
    if solver.BASE_LR_END > solver.BASE_LR:
        raise UserError(f"SOLVER.BASE_LR_END is {solver.BASE_LR_END}: want 0 to SOLVER.BASE_LR, {solver.BASE_LR}")
    _check_pixels(cfg.MODEL)
    _check_device(cfg.MODEL.DEVICE)


def _check_pixels(model: CfgNode) -> None:
    """Models see pixels of 0 to 255; the usual mistake are the numbers of those who divide by 255 first."""
    remedy = "of pixels of 0 to 255: multiply by 255 what is for pixels of 0 to 1"
    for name, values in (("MEAN", model.PIXEL_MEAN), ("STD", model.PIXEL_STD)):
        given = f"MODEL.PIXEL_{name} is {values}"
        if not all(isinstance(value, (int, float)) for value in values):
            raise UserError(f"{given}: want a number for each channel")
        if name == "MEAN" and 0 < max(map(abs, values), default=0) <= 1:
            raise UserError(f"{given}: want the mean {remedy}")
        if name == "STD" and not all(value >= 1 for value in values):
            raise UserError(f"{given}: want deviations of 1 or more, {remedy}")


def _check_device(name: str) -> None:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"MODEL.DEVICE is {name}: want cpu, cuda, or cuda:0 and so on") from error
    if device.type == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
        raise UserError(f"MODEL.DEVICE is {name}, but this machine has {count} GPUs, counted from 0")


def value_of(cfg: CfgNode, name: str) -> Any:
    """The value of a dotted key, None if there is none."""
    node: Any = cfg
    for part in name.split("."):
        node = node.get(part) if isinstance(node, CfgNode) else None
    return node
