"""The loss registry: for each loss its keys under DISTILL, the taps that it compares, and how it is made.

build.py makes the losses that a config switches on: it calls the `make` of their entries, which comes first in each.

Your own loss is one more entry, made by a file that a config names under IMPORTS: see docs/new_loss.md.
"""

from typing import Any

from detectron2.config import CfgNode

from densedist.common.config.keys import Key, above, at_least, one_of
from densedist.common.distill.adapters import Generator
from densedist.common.distill.spec import LossSpec
from densedist.common.distill.taps import Kind, TapSpec
from densedist.common.errors import UserError
from densedist.common.losses import (
    AFDCDLoss,
    AttentiveMimicLoss,
    BoxLoss,
    CIRKDLoss,
    CrossHeadLoss,
    CWDLoss,
    DISTLoss,
    DKDLoss,
    FGDLoss,
    KDLoss,
    MaskLoss,
    MGDLoss,
    MimicLoss,
    PKDLoss,
    ProposalLoss,
    RKDLoss,
)
from densedist.common.losses.box import DISTANCES
from densedist.common.losses.fgd import GlobalRelationLoss
from densedist.common.losses.mask import KINDS

__all__ = ["LOSSES", "LossSpec", "is_on", "loss_keys"]


def _softmax_of_one(_: CfgNode, tap: TapSpec) -> str:
    one = "has one column: its softmax is 1 whatever the logits are; name the background as a class, too"
    return one if tap.activation == "softmax" and 1 in tap.channels else ""


def _standardized(keys: CfgNode, tap: TapSpec) -> str:
    if not keys.STANDARDIZE:
        return ""
    if tap.activation == "sigmoid":
        return "goes through sigmoids, of which a row is no distribution over classes: set STANDARDIZE to False"
    two = "has two columns: standardized they are 1 and -1, whatever they were; set STANDARDIZE to False"
    return two if 2 in tap.channels else ""


def _kd(keys: CfgNode, tap: TapSpec) -> str:
    return _softmax_of_one(keys, tap) or _standardized(keys, tap)


def _dist(keys: CfgNode, tap: TapSpec) -> str:
    if why := _kd(keys, tap):
        return why
    one = "has one column: a row of one has no relations"
    remedy = "set DISTILL.DIST.BETA to 0, or DISTILL.DENSE_ROWS to locations"
    return f"{one}; {remedy}" if keys.BETA > 0 and 1 in tap.channels else ""


def _dkd(keys: CfgNode, tap: TapSpec) -> str:
    sigmoid = "goes through sigmoids, and DKD splits a softmax into a target and other classes: take KD or DIST"
    return sigmoid if tap.activation == "sigmoid" else _softmax_of_one(keys, tap)


def _rkd(keys: CfgNode) -> str:
    levels = f"level {', '.join(map(str, keys.LEVELS))} of" if keys.LEVELS else ""
    return " ".join(filter(None, (f"{keys.MEMORY} past and" if keys.MEMORY else "", levels)))


def _generator_of_groups(keys: CfgNode, kind: Kind, student: int, teacher: int) -> Generator:
    if teacher % keys.GROUPS:
        raise UserError(f"DISTILL.AFDCD.GROUPS is {keys.GROUPS}: want a divisor of the teacher's {teacher} channels")
    return Generator(student, teacher, keys.MASKED)


def _hidden(default: float, meaning: str) -> Key:
    return Key(default, lambda share: 0 <= share < 1, "0 to below 1", meaning=meaning)


def _tau(default: float = 1.0, of: str = "logits are") -> Key:
    return above(0, default, "a temperature above 0", f"Temperature: {of} divided by it.")


def _part(default: float, of: str) -> Key:
    return at_least(0.0, default, meaning=f"Weight of the {of}.")


STANDARDIZE = Key(False, meaning="Standardize the logits of each row first (logit standardization, Sun et al., 2024).")
BOXES = {"giou": "boxes", "smooth_l1": "deltas"}  # by the distance
CLASS_LOGITS: dict[str, Any] = {
    "tap": "cls_logits",
    "kinds": ("rows", "maps"),
    "logits": True,
    "spatial": True,
    "adapt": "never",
    "no_rows": True,
}

# In the order of the plan.
LOSSES: dict[str, LossSpec] = {
    "DIST": LossSpec(
        lambda keys, tap, sync: DISTLoss(
            keys.BETA, keys.GAMMA, keys.TAU, tap.activation or "softmax", sync=sync, standardize=keys.STANDARDIZE
        ),
        keys={
            "BETA": _part(1.0, "inter-class relation, across the classes of a row"),
            "GAMMA": _part(1.0, "intra-class relation, across the rows for each class"),
            "TAU": _tau(),
            "STANDARDIZE": STANDARDIZE,
        },
        weight=1.0,
        unfit=_dist,
        described=lambda keys: "standardized" * keys.STANDARDIZE,
        **CLASS_LOGITS,
    ),
    "KD": LossSpec(
        lambda keys, tap, sync: KDLoss(keys.TAU, tap.activation or "softmax", sync, keys.STANDARDIZE),
        keys={"TAU": _tau(), "STANDARDIZE": STANDARDIZE},
        unfit=_kd,
        described=lambda keys: "standardized" * keys.STANDARDIZE,
        **CLASS_LOGITS,
    ),
    "DKD": LossSpec(
        lambda keys, tap, sync: DKDLoss(keys.ALPHA, keys.BETA, keys.TAU, sync),
        keys={
            "ALPHA": _part(1.0, "label's class against all others"),
            "BETA": _part(0.25, "other classes among themselves; the default is the authors' for detectors"),
            "TAU": _tau(),
        },
        targets="classes",
        unfit=_dkd,
        **CLASS_LOGITS,
    ),
    # The authors of DIST + mimic adapt always.
    "MIMIC": LossSpec(lambda keys, tap, sync: MimicLoss(), "features", adapt="always", padding=True),
    "RKD": LossSpec(
        lambda keys, tap, sync: RKDLoss(keys.DISTANCE, keys.ANGLE, sync=sync),
        lambda keys: keys.SAMPLES,
        {
            # A thousandth of the customary 25 and 50, which leave the labels next to nothing (docs/relations.md).
            "DISTANCE": _part(0.025, "distances"),
            "ANGLE": _part(0.05, "angles"),
            "SAMPLES": Key(
                "images",
                meaning="What is related: images, cells (of a 4x4 grid), rois (two-stage), classes (segmentation).",
            ),
            "LEVELS": Key(
                [],
                lambda levels: all(isinstance(level, int) and level >= 0 for level in levels),
                "whole numbers of 0 or more",
                meaning="Maps whose samples are related, by number: a pyramid's from the finest, 0, on; empty = all.",
            ),
            "MEMORY": at_least(0, 0, meaning="Samples of earlier batches that each batch is related to, too."),
        },
        kinds=("samples",),
        adapt="never",
        no_rows=True,
        described=_rkd,
        levels=lambda keys: keys.LEVELS,
        memory=lambda keys: keys.MEMORY,
    ),
    "CIRKD": LossSpec(
        lambda keys, tap, sync: CIRKDLoss(keys.TAU, keys.PLACES, sync),
        "features",
        {
            "TAU": _tau(0.1, "similarities are"),
            "PLACES": at_least(1, 512, meaning="Most places of an image; larger maps are averaged over squares."),
        },
        adapt="never",
        padding=True,
    ),
    "CWD": LossSpec(
        lambda keys, tap, sync: CWDLoss(keys.TAU),
        lambda keys: keys.TAP,
        {"TAU": _tau(4.0, "maps are"), "TAP": Key("features", meaning="features, or cls_logits as maps.")},
        auxiliary=False,
        padding=True,
    ),
    "PKD": LossSpec(lambda keys, tap, sync: PKDLoss(sync=sync), "features", padding=True),
    "ATTENTION": LossSpec(
        lambda keys, tap, sync: AttentiveMimicLoss(keys.TAU),
        "features",
        {"TAU": _tau(0.5, "attention is")},
        padding=True,
    ),
    # The authors' weights for one-stage detectors.
    "FGD": LossSpec(
        lambda keys, tap, sync: FGDLoss(keys.ALPHA, keys.BETA, keys.GAMMA, keys.TAU),
        "features",
        {
            "ALPHA": _part(1e-3, "features in objects"),
            "BETA": _part(5e-4, "features in the background"),
            "GAMMA": _part(5e-4, "attention"),
            "LAMBDA": _part(5e-6, "global relation"),
            "TAU": _tau(0.5, "attention is"),
        },
        targets="objects",
        learned=lambda keys, channels: GlobalRelationLoss(channels, keys.LAMBDA),
        padding=True,
    ),
    "MGD": LossSpec(
        lambda keys, tap, sync: MGDLoss(),
        "features",
        {"MASKED": _hidden(0.5, "Share of places hidden from the generator; paper: 0.65 one-stage, 0.45 two-stage.")},
        adapt="always",
        adapter=lambda keys, kind, student, teacher: Generator(student, teacher, keys.MASKED),
        padding=True,
    ),
    # The authors' values for segmentation.
    "AFDCD": LossSpec(
        lambda keys, tap, sync: AFDCDLoss(
            keys.CONTRAST, keys.RECONSTRUCTION, keys.TAU, keys.GROUPS, keys.PATCH, keys.POOL
        ),
        "features",
        {
            "CONTRAST": _part(1e-3, "contrast between groups of channels"),
            "RECONSTRUCTION": _part(4e-5, "squared error"),
            "TAU": _tau(0.07, "distances are"),
            "GROUPS": at_least(2, 16, meaning="Groups of channels; a divisor of the teacher's channels."),
            "PATCH": at_least(1, 4, meaning="Side of a patch, in pooled places."),
            "POOL": at_least(1, 4, meaning="Side of the squares that are pooled by their maximum."),
            "MASKED": _hidden(0.75, "Share of places that the generator does not see."),
        },
        adapt="always",
        adapter=_generator_of_groups,
        padding=True,
    ),
    "BOX": LossSpec(
        lambda keys, tap, sync: BoxLoss(keys.DISTANCE, keys.BETA, sync),
        lambda keys: ("refined_" if keys.STAGES == "refined" else "") + BOXES[keys.DISTANCE],
        {
            "DISTANCE": one_of(*DISTANCES, meaning="GIoU of boxes in pixels, or smooth L1 of regression targets."),
            "BETA": at_least(0.0, 0.0, meaning="Where smooth_l1 turns from quadratic to linear; 0 is L1."),
            "STAGES": one_of(
                "first", "refined", meaning="Boxes of a cascade teacher: after its first stage or its last."
            ),
        },
        kinds=("boxes",),
        adapt="never",
        no_rows=True,
    ),
    "RPN": LossSpec(
        lambda keys, tap, sync: ProposalLoss(keys.BOX, sync),
        "proposals",
        {"BOX": _part(1.0, "boxes; that of objectness is 1")},
        kinds=("proposals",),
        adapt="never",
    ),
    "CROSSKD": LossSpec(
        lambda keys, tap, sync: CrossHeadLoss(keys.BOX, sync),
        lambda keys: f"crossed_{keys.POSITION}",
        {
            "POSITION": at_least(1, 3, meaning="Convolutions of the student's head before the teacher's take over."),
            "BOX": _part(1.0, "boxes; that of classes is 1"),
        },
        kinds=("crossed",),
        targets="anchors",
        adapt="never",
    ),
    "MASK": LossSpec(
        lambda keys, tap, sync: MaskLoss(keys.KIND, keys.TAU, sync),
        "masks",
        {"KIND": one_of(*KINDS, meaning="Compare correlations of masks, or each pixel."), "TAU": _tau()},
        kinds=("masks",),
        adapt="never",
        no_rows=True,
        title="mask_distill",  # Mask R-CNN's own is loss_mask
    ),
}


def loss_keys() -> dict[str, Key]:
    """Return the keys DISTILL.* of all losses in the registry."""
    keys = {}
    for name, spec in LOSSES.items():
        keys[f"DISTILL.{name}.WEIGHT"] = at_least(0, spec.weight, "0 (off) or more", f"Weight of the loss {name}.")
        for key, value in spec.keys.items():
            keys[f"DISTILL.{name}.{key}"] = value if isinstance(value, Key) else Key(value)
    return keys


def is_on(distill: CfgNode) -> bool:
    """Return whether the DISTILL node names a teacher and switches a loss on."""
    named = distill.TEACHER.CONFIG_FILE or distill.TEACHER.WEIGHTS
    return bool(named) and any(distill[loss].WEIGHT > 0 for loss in LOSSES)
