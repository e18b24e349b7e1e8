"""From the taps of student and teacher to a dict of weighted losses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from common.errors import UserError
from common.losses import DISTLoss, KDLoss
from common.losses.logits import Activation

# What a model offers to distillation, by name. A tap has one tensor per level or stage.
Taps = Mapping[str, Sequence[Tensor]]


@dataclass(frozen=True)
class Term:
    """weight · loss(student tap, teacher tap), summed over the tensors of the tap."""

    name: str
    tap: str
    loss: nn.Module
    weight: float

    def __call__(self, student: Taps, teacher: Taps) -> Tensor:
        pairs = zip(student[self.tap], teacher[self.tap], strict=True)
        return self.weight * torch.stack([self._one(s, t) for s, t in pairs]).sum()

    def _one(self, student: Tensor, teacher: Tensor) -> Tensor:
        # A batch may sample no RoI at all; every process must still have the same losses with gradients.
        return self.loss(student, teacher) if student.numel() else student.sum()

    def __str__(self) -> str:
        return f"{self.weight}·{self.name}({self.tap})"


class Distiller:
    """The distillation losses of one training, in the order of the plan."""

    def __init__(self, terms: Sequence[Term]) -> None:
        self.terms = tuple(terms)

    def __call__(self, student: Taps, teacher: Taps) -> dict[str, Tensor]:
        """The losses by name, e.g. {"loss_dist": 0-dim tensor}; taps that no loss uses are not touched."""
        return {f"loss_{term.name}": term(student, teacher) for term in self.terms}

    def __str__(self) -> str:
        return " + ".join(["task", *map(str, self.terms)])


def build_distiller(distill: CfgNode, activation: Activation) -> Distiller:
    """The losses that the DISTILL node switches on (WEIGHT above 0), on class logits.

    Raises:
        UserError: a weight below 0 or a temperature not above 0.
    """
    for loss in ("DIST", "KD"):
        if distill[loss].WEIGHT < 0:
            raise UserError(f"DISTILL.{loss}.WEIGHT is {distill[loss].WEIGHT}: want 0 (off) or more")
        if distill[loss].TAU <= 0:
            raise UserError(f"DISTILL.{loss}.TAU is {distill[loss].TAU}: want a temperature above 0")
    dist = DISTLoss(distill.DIST.BETA, distill.DIST.GAMMA, distill.DIST.TAU, activation)
    kd = KDLoss(distill.KD.TAU, activation)
    terms = [
        Term("dist", "cls_logits", dist, distill.DIST.WEIGHT),
        Term("kd", "cls_logits", kd, distill.KD.WEIGHT),
    ]
    return Distiller([term for term in terms if term.weight > 0])
