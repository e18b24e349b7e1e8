"""From the taps of student and teacher to a dict of weighted losses."""

from collections.abc import Mapping, Sequence

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn
from torch.nn import functional as F

from densedist.common.distill.distiller import TrainingOnly, one_by_one
from densedist.common.errors import UserError
from densedist.common.losses import DISTLoss, KDLoss, RKDLoss
from densedist.common.losses.checks import Activation
from densedist.common.distill.schedule import Strength
from densedist.common.distill.registry import LOSSES, Term, switched_on

# What a model offers to distillation, by name. A tap has one tensor per level or stage.
Taps = Mapping[str, Sequence[Tensor]]
# The taps that a model can give: for each tensor its channels (of logits: its columns).
Offer = Mapping[str, Sequence[int]]


class Distiller(nn.Module):
    """The distillation losses of one training, in the order of the plan.

    Args:
        terms: the losses.
        adapters: for terms by name one module per tensor of the tap, which the student's passes through.
        strength: a factor on all losses in the course of the training.
    """

    def __init__(
        self,
        terms: Sequence[Term],
        adapters: Mapping[str, nn.ModuleList] | None = None,
        strength: Strength | None = None,
    ) -> None:
        super().__init__()
        self.terms = tuple(terms)
        self.adapters = TrainingOnly(dict(adapters or {}))
        self.strength = strength or Strength()

    @property
    def taps(self) -> set[str]:
        """The names of the taps that the losses need."""
        return {term.tap for term in self.terms}

    def forward(self, student: Taps, teacher: Taps, valid: Taps | None = None) -> dict[str, Tensor]:
        """The losses by name, e.g. {"loss_dist": 0-dim tensor}.

        Args:
            student, teacher: the taps of both sides, those of self.taps at least.
            valid: for taps of logits by name the rows that count (see the losses); all rows of the others do.
        """
        strength = self.strength.now()
        return {f"loss_{t.name}": strength * t.weight * self._sum(t, student, teacher, valid or {}) for t in self.terms}

    def _sum(self, term: Term, student: Taps, teacher: Taps, valid: Taps) -> Tensor:
        ours, theirs, masks = student[term.tap], teacher[term.tap], valid.get(term.tap)
        if term.name in self.adapters:
            adapters = list(self.adapters[term.name].children())
            ours = [adapter(x) for adapter, x in zip(adapters, ours, strict=True)]
        losses = []
        for number, (s, t) in enumerate(zip(ours, theirs, strict=True)):
            extra = () if masks is None else (masks[number],)
            # A batch may sample no RoI at all; every process must still take part in the same losses.
            losses.append(term.loss(s, t, *extra) if s.numel() else _of_nothing(term.loss, s, t))
        return torch.stack(losses).sum()

    def __str__(self) -> str:
        plan = " + ".join(["task", *map(str, self.terms)])
        return f"{plan} (distillation {self.strength})" if str(self.strength) else plan


def _of_nothing(loss: nn.Module, student: Tensor, teacher: Tensor) -> Tensor:
    """The loss where this process has no row (0, C): with sync that of the others' rows."""
    if isinstance(loss, (DISTLoss, KDLoss)):
        return loss(F.pad(student, (0, 0, 0, 1)), F.pad(teacher, (0, 0, 0, 1)), student.new_zeros(1, dtype=torch.bool))
    return loss(student, teacher) if isinstance(loss, RKDLoss) and loss.sync else student.sum()


def is_on(distill: CfgNode) -> bool:
    """Whether the DISTILL node names a teacher and switches a loss on.

    Raises:
        UserError: a weight below 0, or a temperature not above 0.
    """
    for loss in LOSSES:
        if distill[loss].WEIGHT < 0:
            raise UserError(f"DISTILL.{loss}.WEIGHT is {distill[loss].WEIGHT}: want 0 (off) or more")
        if distill[loss].get("TAU", 1) <= 0:
            raise UserError(f"DISTILL.{loss}.TAU is {distill[loss].TAU}: want a temperature above 0")
    named = distill.TEACHER.CONFIG_FILE or distill.TEACHER.WEIGHTS
    return bool(named) and any(distill[loss].WEIGHT > 0 for loss in LOSSES)


def build_distiller(
    cfg: CfgNode,
    student: Offer,
    teacher: Offer,
    activation: Activation,
    auxiliary: Mapping[str, float] | None = None,
) -> Distiller:
    """The losses that DISTILL.* of the student's config switches on (WEIGHT above 0).

    Args:
        student, teacher: what both sides can give.
        activation: of the class logits.
        auxiliary: more taps with class logits, by factors on the weights of the losses on logits; those that
            both sides have are distilled like cls_logits.

    Raises:
        UserError: a value out of range, or a loss on a tap that the pair does not have.
    """
    both = {name for name in student if name in teacher}
    terms, adapters = [], {}
    for loss in switched_on(cfg.DISTILL, activation):
        factors = {loss.tap: 1.0}
        if loss.tap == "cls_logits" and loss.name in ("dist", "kd"):
            factors |= {tap: factor for tap, factor in (auxiliary or {}).items() if tap in both}
        if loss.tap not in both:
            raise UserError(
                f"DISTILL.{loss.name.upper()} needs {loss.tap}, which this pair does not have: "
                f"want one of {', '.join(sorted(both))}"
            )
        for tap, factor in factors.items():
            name = loss.name if tap == loss.tap else f"{loss.name}_{tap}"
            terms.append(Term(name, tap, loss.loss, factor * loss.weight))
        ours, theirs = list(student[loss.tap]), list(teacher[loss.tap])
        if loss.tap != "features":
            continue
        if len(ours) != len(theirs):
            raise UserError(
                f"DISTILL.{loss.name.upper()} needs as many feature levels on both sides: "
                f"the student has {len(ours)}, the teacher {len(theirs)}"
            )
        # The authors of DIST + mimic adapt always; the others need it where the channels differ.
        if loss.name == "mimic" or ours != theirs:
            adapters[loss.name] = one_by_one(ours, theirs)
    return Distiller(terms, adapters, Strength.of(cfg))


#### MERGED FROM common.adapters
"""Layers between the student's features and the teacher's, for the training only."""

from collections.abc import Sequence
from typing import Any

from torch import nn


class TrainingOnly(nn.ModuleDict):
    """Trained with the model that holds it, but no part of that model's state_dict.

    Its own state_dict() is whole, so that a checkpoint can keep it beside the student.
    """

    def __init__(self, modules: dict[str, nn.Module]) -> None:
        super().__init__(modules)
        self.register_load_state_dict_post_hook(_nothing_is_missing)

    def state_dict(self, *args: Any, destination: Any = None, **kwargs: Any) -> Any:
        # With a destination it is asked as a part of another module.
        return super().state_dict(*args, **kwargs) if destination is None else destination


def _nothing_is_missing(module: nn.Module, incompatible: Any) -> None:
    """Of a student's checkpoint; one of its own, without a prefix to the names, has to be whole."""
    mine = tuple(f".{name}" for name, _ in module.named_parameters())
    incompatible.missing_keys[:] = [key for key in incompatible.missing_keys if not key.endswith(mine)]


def one_by_one(student: Sequence[int], teacher: Sequence[int]) -> nn.ModuleList:
    """A 1x1 convolution with bias for each level, from the student's channels to the teacher's."""
    return nn.ModuleList(nn.Conv2d(s, t, 1) for s, t in zip(student, teacher, strict=True))
