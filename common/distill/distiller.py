"""From the taps of student and teacher to a dict of weighted losses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from densedist.common.distill.registry import LossSpec
from densedist.common.distill.schedule import LossWeightSchedule
from densedist.common.distill.taps import Taps
from densedist.common.errors import UserError


@dataclass(frozen=True)
class Term:
    """weight · loss(student tap, teacher tap), summed over the tensors of the tap.

    Args:
        columns: of the tap's tensors, those that are compared; None = all.
    """

    name: str
    tap: str
    weight: float
    loss: nn.Module
    spec: LossSpec
    columns: tuple[int, ...] | None = None

    def __str__(self) -> str:
        return f"{self.weight}·{self.name}({self.tap})"


def beside(own: Mapping[str, Tensor], distilled: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All losses of a batch, by name.

    Raises:
        UserError: one of distillation has the name of one of the model's own, and would take its place.
    """
    if both := sorted(own.keys() & distilled.keys()):
        raise UserError(f"{both[0]} is a loss of the model's own, too: give the one in LOSSES another title")
    return {**own, **distilled}


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


class Distiller(nn.Module):
    """The distillation losses of a run, in the order of the plan.

    Args:
        terms: the losses.
        adapters: for terms by name one module per tensor of the tap, which the student's passes through.
        schedule: a factor on all losses in the course of the run.
    """

    def __init__(
        self,
        terms: Sequence[Term],
        adapters: Mapping[str, nn.ModuleList] | None = None,
        schedule: LossWeightSchedule | None = None,
    ) -> None:
        super().__init__()
        self.terms = tuple(terms)
        self.adapters = TrainingOnly(dict(adapters or {}))
        self.schedule = schedule or LossWeightSchedule()

    @property
    def taps(self) -> set[str]:
        """The names of the taps that the losses need."""
        return {term.tap for term in self.terms}

    def forward(self, student: Taps, teacher: Taps, valid: Taps | None = None) -> dict[str, Tensor]:
        """The losses by name, e.g. {"loss_dist": 0-dim tensor}.

        Args:
            student, teacher: the taps of both sides, those of self.taps at least.
            valid: for taps of class logits by name the rows that count (see the losses); of others all do.
        """
        factor = self.schedule.now()
        return {f"loss_{t.name}": factor * t.weight * self._sum(t, student, teacher, valid or {}) for t in self.terms}

    def _sum(self, term: Term, student: Taps, teacher: Taps, valid: Taps) -> Tensor:
        ours, theirs = student[term.tap], teacher[term.tap]
        masks = valid.get(term.tap) if term.spec.logits else None
        if term.columns is not None:
            ours, theirs = ([x[:, list(term.columns)] for x in side] for side in (ours, theirs))
        if term.name in self.adapters:
            adapters = list(self.adapters[term.name].children())
            ours = [adapter(x) for adapter, x in zip(adapters, ours, strict=True)]
        losses = []
        for number, (s, t) in enumerate(zip(ours, theirs, strict=True)):
            mask = () if masks is None else (masks[number],)
            # A batch may sample no RoI at all; every process must still take part in the same losses.
            losses.append(term.loss(s, t, *mask) if s.numel() else term.spec.empty(term.loss, s, t))
        return torch.stack(losses).sum()

    def __str__(self) -> str:
        plan = " + ".join(["task", *map(str, self.terms)])
        return f"{plan} (distillation {self.schedule})" if str(self.schedule) else plan
