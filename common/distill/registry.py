"""The loss registry: for each loss its keys under DISTILL, the taps that it compares, and how it is made.

A loss of one's own is one more entry, made by a file that a config names under IMPORTS: see docs/new_loss.md.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from densedist.common.config.keys import Key, above, at_least, one_of
from densedist.common.distill.adapters import Generator, linear
from densedist.common.distill.taps import Kind, TapSpec
from densedist.common.losses import (
    AttentiveMimicLoss,
    BoxLoss,
    CrossHeadLoss,
    CWDLoss,
    DISTLoss,
    KDLoss,
    MaskLoss,
    MGDLoss,
    MimicLoss,
    PKDLoss,
    ProposalLoss,
    RKDLoss,
)
from densedist.common.losses.box import DISTANCES
from densedist.common.losses.mask import KINDS

# Of a loss, the student's tensor and the teacher's, of which the student's has no element: the loss of the batch,
# with a gradient, and with the same collectives as on the other processes.
Empty = Callable[[nn.Module, Tensor, Tensor], Tensor]


def zero(_: nn.Module, student: Tensor, __: Tensor) -> Tensor:
    """A loss that looks at this process alone."""
    return student.sum()


def one_row_that_does_not_count(loss: nn.Module, student: Tensor, teacher: Tensor) -> Tensor:
    """A loss on rows (0, C) or RoIs (0, C, H, W) with a mask: with sync it is that of the others' rows."""
    ours, theirs = (torch.cat([x, x.new_zeros(1, *x.shape[1:])]) for x in (student, teacher))
    return loss(ours, theirs, student.new_zeros(1, dtype=torch.bool))


def own(loss: nn.Module, student: Tensor, teacher: Tensor) -> Tensor:
    """A loss that takes no sample where it gathers those of others."""
    return loss(student, teacher) if loss.sync else zero(loss, student, teacher)


@dataclass(frozen=True)
class LossSpec:
    """A loss that a config can switch on by DISTILL.<NAME>.WEIGHT above 0.

    Args:
        make: the loss, of its own keys, what the tap is, and DISTILL.SYNC. It is called with the student's tensor
            and the teacher's, once for each tensor of the tap, and gives a 0-dim loss.
        tap: what it compares, or the choice of it by its keys.
        keys: DISTILL.<NAME>.* beside WEIGHT, with defaults, and with the values that they may have.
        weight: the default of WEIGHT.
        kinds: the taps that it accepts (see TapSpec).
        logits: it accepts class logits alone, and takes a third argument `valid`: the rows that count, or None.
        adapt: when the student's tensors pass through adapters to the teacher's channels. "never": the channels may
            differ (relations) or cannot (class logits).
        adapter: the adapter of one tensor, of its own keys, the kind of the tap, and the channels of both sides.
        auxiliary: whether it also goes to auxiliary heads.
        empty: what it gives where a process has no row or sample.
        title: what its loss is called in the log, after "loss_"; "" = its name in lowercase.
        one_column: why it teaches nothing of a tensor with one column, and what to do; "" = it does.
    """

    make: Callable[[CfgNode, TapSpec, bool], nn.Module]
    tap: str | Callable[[CfgNode], str]
    keys: Mapping[str, Key | Any] = field(default_factory=dict)
    weight: float = 0.0
    kinds: tuple[Kind, ...] = ("maps",)
    logits: bool = False
    adapt: Literal["where channels differ", "always", "never"] = "where channels differ"
    adapter: Callable[[CfgNode, Kind, int, int], nn.Module] = lambda _, *given: linear(*given)
    auxiliary: bool = True
    empty: Empty = zero
    title: str = ""
    one_column: Callable[[CfgNode, TapSpec], str] = lambda *_: ""


def _softmax_of_one(_: CfgNode, tap: TapSpec) -> str:
    return "its softmax is 1 whatever the logits are; name the background as a class, too" * (
        tap.activation == "softmax"
    )


def _relations_of_one(keys: CfgNode, tap: TapSpec) -> str:
    if why := _softmax_of_one(keys, tap):
        return why
    one = "a row of one has no relations; set DISTILL.DIST.BETA to 0, or DISTILL.DENSE_ROWS to locations"
    return one if keys.BETA > 0 else ""


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
        lambda keys, tap, sync: DISTLoss(keys.BETA, keys.GAMMA, keys.TAU, tap.activation or "softmax", sync=sync),
        keys={"BETA": at_least(0.0, 1.0), "GAMMA": at_least(0.0, 1.0), "TAU": above(0, 1.0, TAU)},
        weight=1.0,
        one_column=_relations_of_one,
        **CLASS_LOGITS,
    ),
    "KD": LossSpec(
        lambda keys, tap, sync: KDLoss(keys.TAU, tap.activation or "softmax", sync=sync),
        keys={"TAU": above(0, 1.0, TAU)},
        one_column=_softmax_of_one,
        **CLASS_LOGITS,
    ),
    # The authors of DIST + mimic adapt always.
    "MIMIC": LossSpec(lambda *_: MimicLoss(), "features", adapt="always"),
    # SAMPLES: images, cells (of a 4x4 grid), rois (two-stage detectors), classes (segmentation)
    "RKD": LossSpec(
        lambda keys, _, sync: RKDLoss(keys.DISTANCE, keys.ANGLE, sync=sync),
        lambda keys: keys.SAMPLES,
        {"DISTANCE": at_least(0.0, 25.0), "ANGLE": at_least(0.0, 50.0), "SAMPLES": "images"},
        kinds=("samples",),
        adapt="never",
        empty=own,
    ),
    # TAP: features, or class logits as maps
    "CWD": LossSpec(
        lambda keys, *_: CWDLoss(keys.TAU),
        lambda keys: keys.TAP,
        {"TAU": above(0, 4.0, TAU), "TAP": "features"},
        auxiliary=False,
    ),
    "PKD": LossSpec(lambda _, __, sync: PKDLoss(sync=sync), "features"),
    "ATTENTION": LossSpec(lambda keys, *_: AttentiveMimicLoss(keys.TAU), "features", {"TAU": above(0, 0.5, TAU)}),
    # The masked share of the paper: 0.65 for one-stage detectors, 0.45 for two-stage ones.
    "MGD": LossSpec(
        lambda *_: MGDLoss(),
        "features",
        {"MASKED": Key(0.5, lambda share: 0 <= share < 1, "0 to below 1")},
        adapt="always",
        adapter=lambda keys, _, student, teacher: Generator(student, teacher, keys.MASKED),
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
