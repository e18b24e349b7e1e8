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

    def __call__(self, student: Taps, teacher: Taps, valid: Taps) -> Tensor:
        ours, theirs = student[self.tap], teacher[self.tap]
        triples = zip(ours, theirs, valid.get(self.tap, [None] * len(ours)), strict=True)
        return self.weight * torch.stack([self._one(*triple) for triple in triples]).sum()

    def _one(self, student: Tensor, teacher: Tensor, valid: Tensor | None) -> Tensor:
        # A batch may sample no RoI at all; every process must still have the same losses with gradients.
        return self.loss(student, teacher, valid) if student.numel() else student.sum()

    def __str__(self) -> str:
        return f"{self.weight}·{self.name}({self.tap})"


class Distiller:
    """The distillation losses of one training, in the order of the plan."""

    def __init__(self, terms: Sequence[Term]) -> None:
        self.terms = tuple(terms)

    def __call__(self, student: Taps, teacher: Taps, valid: Taps | None = None) -> dict[str, Tensor]:
        """The losses by name, e.g. {"loss_dist": 0-dim tensor}; taps that no loss uses are not touched.

        Args:
            student, teacher: the taps of both sides.
            valid: for taps by name the rows that count (see the losses); all rows of the others do.
        """
        return {f"loss_{term.name}": term(student, teacher, valid or {}) for term in self.terms}

    def __str__(self) -> str:
        return " + ".join(["task", *map(str, self.terms)])


def build_distiller(distill: CfgNode, activation: Activation, taps: Mapping[str, float] | None = None) -> Distiller:
    """The losses that the DISTILL node switches on (WEIGHT above 0), on class logits.

    Args:
        taps: the taps with class logits, each with a factor on the losses' weights; default cls_logits.

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
        Term(name if tap == "cls_logits" else f"{name}_{tap}", tap, loss, factor * weight)
        for name, loss, weight in (("dist", dist, distill.DIST.WEIGHT), ("kd", kd, distill.KD.WEIGHT))
        for tap, factor in (taps or {"cls_logits": 1.0}).items()
    ]
    return Distiller([term for term in terms if term.weight > 0])
