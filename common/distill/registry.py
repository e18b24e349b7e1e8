"""The loss registry: for each loss its keys under DISTILL, the taps that it compares, and how it is made.

A loss of one's own is one more entry, made by a file that a config names under IMPORTS: see docs/new_loss.md.
"""

from typing import Any

from detectron2.config import CfgNode

from densedist.common.config.keys import Key, above, at_least, one_of
from densedist.common.distill.adapters import Generator
from densedist.common.distill.spec import LossSpec, one_row_that_does_not_count, one_row_without_a_label, own
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

__all__ = ["LOSSES", "LossSpec", "loss_keys"]


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


def _generator_of_groups(keys: CfgNode, _: Kind, student: int, teacher: int) -> Generator:
    if teacher % keys.GROUPS:
        raise UserError(f"DISTILL.AFDCD.GROUPS is {keys.GROUPS}: want a divisor of the teacher's {teacher} channels")
    return Generator(student, teacher, keys.MASKED)


def _hidden(default: float) -> Key:
    """The share of places that a generator does not see."""
    return Key(default, lambda share: 0 <= share < 1, "0 to below 1")


TAU = "a temperature above 0"
BOXES = {"giou": "boxes", "smooth_l1": "deltas"}  # by the distance
CLASS_LOGITS: dict[str, Any] = {
    "tap": "cls_logits",
    "kinds": ("rows", "maps"),
    "logits": True,
    "adapt": "never",
    "empty": one_row_that_does_not_count,
}

# In the order of the plan.
LOSSES: dict[str, LossSpec] = {
    "DIST": LossSpec(
        lambda keys, tap, sync: DISTLoss(
            keys.BETA, keys.GAMMA, keys.TAU, tap.activation or "softmax", sync=sync, standardize=keys.STANDARDIZE
        ),
        keys={"BETA": at_least(0.0, 1.0), "GAMMA": at_least(0.0, 1.0), "TAU": above(0, 1.0, TAU), "STANDARDIZE": False},
        weight=1.0,
        unfit=_dist,
        described=lambda keys: "standardized" * keys.STANDARDIZE,
        **CLASS_LOGITS,
    ),
    "KD": LossSpec(
        lambda keys, tap, sync: KDLoss(keys.TAU, tap.activation or "softmax", sync, keys.STANDARDIZE),
        keys={"TAU": above(0, 1.0, TAU), "STANDARDIZE": False},
        unfit=_kd,
        described=lambda keys: "standardized" * keys.STANDARDIZE,
        **CLASS_LOGITS,
    ),
    # ALPHA, BETA: of the target and of the other classes; the authors' for detectors
    "DKD": LossSpec(
        lambda keys, _, sync: DKDLoss(keys.ALPHA, keys.BETA, keys.TAU, sync),
        keys={"ALPHA": at_least(0.0, 1.0), "BETA": at_least(0.0, 0.25), "TAU": above(0, 1.0, TAU)},
        targets="classes",
        unfit=_dkd,
        **CLASS_LOGITS | {"empty": one_row_without_a_label},
    ),
    # The authors of DIST + mimic adapt always.
    "MIMIC": LossSpec(lambda *_: MimicLoss(), "features", adapt="always", padding=True),
    # SAMPLES: images, cells (of a 4x4 grid), rois (two-stage detectors), classes (segmentation)
    "RKD": LossSpec(
        lambda keys, _, sync: RKDLoss(keys.DISTANCE, keys.ANGLE, sync=sync),
        lambda keys: keys.SAMPLES,
        {"DISTANCE": at_least(0.0, 25.0), "ANGLE": at_least(0.0, 50.0), "SAMPLES": "images"},
        kinds=("samples",),
        adapt="never",
        empty=own,
    ),
    # PLACES: at most that many of an image, each the mean of a square
    "CIRKD": LossSpec(
        lambda keys, _, sync: CIRKDLoss(keys.TAU, keys.PLACES, sync),
        "features",
        {"TAU": above(0, 0.1, TAU), "PLACES": at_least(1, 512)},
        adapt="never",
        padding=True,
    ),
    # TAP: features, or class logits as maps
    "CWD": LossSpec(
        lambda keys, *_: CWDLoss(keys.TAU),
        lambda keys: keys.TAP,
        {"TAU": above(0, 4.0, TAU), "TAP": "features"},
        auxiliary=False,
        padding=True,
    ),
    "PKD": LossSpec(lambda _, __, sync: PKDLoss(sync=sync), "features", padding=True),
    "ATTENTION": LossSpec(
        lambda keys, *_: AttentiveMimicLoss(keys.TAU), "features", {"TAU": above(0, 0.5, TAU)}, padding=True
    ),
    # Of the objects, of the background, of the attention, of the global relation: the authors' for one-stage detectors
    "FGD": LossSpec(
        lambda keys, *_: FGDLoss(keys.ALPHA, keys.BETA, keys.GAMMA, keys.TAU),
        "features",
        {
            "ALPHA": at_least(0.0, 1e-3),
            "BETA": at_least(0.0, 5e-4),
            "GAMMA": at_least(0.0, 5e-4),
            "LAMBDA": at_least(0.0, 5e-6),
            "TAU": above(0, 0.5, TAU),
        },
        targets="objects",
        learned=lambda keys, channels: GlobalRelationLoss(channels, keys.LAMBDA),
        padding=True,
    ),
    # The masked share of the paper: 0.65 for one-stage detectors, 0.45 for two-stage ones.
    "MGD": LossSpec(
        lambda *_: MGDLoss(),
        "features",
        {"MASKED": _hidden(0.5)},
        adapt="always",
        adapter=lambda keys, _, student, teacher: Generator(student, teacher, keys.MASKED),
        padding=True,
    ),
    # Of the contrast, of the squared error; PATCH and POOL in places: the authors' for segmentation
    "AFDCD": LossSpec(
        lambda keys, *_: AFDCDLoss(keys.CONTRAST, keys.RECONSTRUCTION, keys.TAU, keys.GROUPS, keys.PATCH, keys.POOL),
        "features",
        {
            "CONTRAST": at_least(0.0, 1e-3),
            "RECONSTRUCTION": at_least(0.0, 4e-5),
            "TAU": above(0, 0.07, TAU),
            "GROUPS": at_least(2, 16),
            "PATCH": at_least(1, 4),
            "POOL": at_least(1, 4),
            "MASKED": _hidden(0.75),
        },
        adapt="always",
        adapter=_generator_of_groups,
        padding=True,
    ),
    # STAGES: of a cascade teacher, where its first stage puts an RoI, or its last
    "BOX": LossSpec(
        lambda keys, _, sync: BoxLoss(keys.DISTANCE, keys.BETA, sync),
        lambda keys: ("refined_" if keys.STAGES == "refined" else "") + BOXES[keys.DISTANCE],
        {"DISTANCE": one_of(*DISTANCES), "BETA": at_least(0.0, 0.0), "STAGES": one_of("first", "refined")},
        kinds=("boxes",),
        adapt="never",
        empty=one_row_that_does_not_count,
    ),
    # BOX: the weight of the boxes beside objectness
    "RPN": LossSpec(
        lambda keys, _, sync: ProposalLoss(keys.BOX, sync),
        "proposals",
        {"BOX": at_least(0.0, 1.0)},
        kinds=("proposals",),
        adapt="never",
    ),
    # POSITION: of a one-stage head, the number of the student's convolutions before the teacher's take over
    "CROSSKD": LossSpec(
        lambda keys, _, sync: CrossHeadLoss(keys.BOX, sync),
        lambda keys: f"crossed_{keys.POSITION}",
        {"POSITION": at_least(1, 3), "BOX": at_least(0.0, 1.0)},
        kinds=("crossed",),
        targets="anchors",
        adapt="never",
    ),
    "MASK": LossSpec(
        lambda keys, _, sync: MaskLoss(keys.KIND, keys.TAU, sync),
        "masks",
        {"KIND": one_of(*KINDS), "TAU": above(0, 1.0, TAU)},
        kinds=("masks",),
        adapt="never",
        empty=one_row_that_does_not_count,
        title="mask_distill",  # Mask R-CNN's own is loss_mask
    ),
}


def loss_keys() -> dict[str, Key]:
    """DISTILL.* of all losses that there are now."""
    keys = {}
    for name, spec in LOSSES.items():
        keys[f"DISTILL.{name}.WEIGHT"] = at_least(0, spec.weight, words="0 (off) or more")
        for key, value in spec.keys.items():
            keys[f"DISTILL.{name}.{key}"] = value if isinstance(value, Key) else Key(value)
    return keys
