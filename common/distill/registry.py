"""Every loss that a config can switch on: its keys under DISTILL, the tap that it compares, and how it is made."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from detectron2.config import CfgNode
from torch import nn

from densedist.common.losses import AttentiveMimicLoss, CWDLoss, DISTLoss, KDLoss, MimicLoss, PKDLoss, RKDLoss
from densedist.common.losses.checks import Activation


@dataclass(frozen=True)
class Recipe:
    """A loss of the config.

    Args:
        keys: DISTILL.<NAME>.*, with their defaults; WEIGHT, 0 for off, is one of them.
        tap: what it compares, or the choice of it by its keys.
        make: the loss, of its own keys, DISTILL.SYNC, and the activation of the class logits.
    """

    keys: Mapping[str, Any]
    tap: str | Callable[[CfgNode], str]
    make: Callable[[CfgNode, bool, Activation], nn.Module]


@dataclass(frozen=True)
class Term:
    """weight · loss(student tap, teacher tap), summed over the tensors of the tap."""

    name: str
    tap: str
    loss: nn.Module
    weight: float

    def __str__(self) -> str:
        return f"{self.weight}·{self.name}({self.tap})"


# In the order of the plan. A script of one's own may add to them before it loads a config: see docs/new_loss.md.
LOSSES: dict[str, Recipe] = {
    "DIST": Recipe(
        {"WEIGHT": 1.0, "BETA": 1.0, "GAMMA": 1.0, "TAU": 1.0},
        "cls_logits",
        lambda keys, sync, activation: DISTLoss(keys.BETA, keys.GAMMA, keys.TAU, activation, sync=sync),
    ),
    "KD": Recipe(
        {"WEIGHT": 0.0, "TAU": 1.0},
        "cls_logits",
        lambda keys, sync, activation: KDLoss(keys.TAU, activation, sync=sync),
    ),
    "MIMIC": Recipe({"WEIGHT": 0.0}, "features", lambda *_: MimicLoss()),
    # SAMPLES: images, cells (of a 4x4 grid), rois (two-stage detectors), classes (segmentation)
    "RKD": Recipe(
        {"WEIGHT": 0.0, "DISTANCE": 25.0, "ANGLE": 50.0, "SAMPLES": "images"},
        lambda keys: keys.SAMPLES,
        lambda keys, sync, _: RKDLoss(keys.DISTANCE, keys.ANGLE, sync=sync),
    ),
    # TAP: features, or dense cls_logits
    "CWD": Recipe(
        {"WEIGHT": 0.0, "TAU": 4.0, "TAP": "features"},
        lambda keys: keys.TAP,
        lambda keys, *_: CWDLoss(keys.TAU),
    ),
    "PKD": Recipe({"WEIGHT": 0.0}, "features", lambda _, sync, __: PKDLoss(sync=sync)),
    "ATTENTION": Recipe({"WEIGHT": 0.0, "TAU": 0.5}, "features", lambda keys, *_: AttentiveMimicLoss(keys.TAU)),
}


def add_keys(distill: CfgNode) -> None:
    """Add the keys of all losses to the DISTILL node, in place."""
    for name, recipe in LOSSES.items():
        distill[name] = CfgNode(dict(recipe.keys))


def switched_on(distill: CfgNode, activation: Activation) -> list[Term]:
    """The losses with a weight above 0.

    Args:
        distill: the DISTILL node.
        activation: of the class logits.
    """
    terms = []
    for name, recipe in LOSSES.items():
        keys = distill[name]
        if keys.WEIGHT > 0:
            tap = recipe.tap if isinstance(recipe.tap, str) else recipe.tap(keys)
            terms.append(Term(name.lower(), tap, recipe.make(keys, distill.SYNC, activation), keys.WEIGHT))
    return terms
