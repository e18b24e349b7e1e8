"""From the taps of student and teacher to a dict of weighted losses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from densedist.common.distill.schedule import LossWeightSchedule
from densedist.common.distill.spec import LossSpec
from densedist.common.distill.taps import UNLABELED, Inside, Taps
from densedist.common.errors import UserError


@dataclass(frozen=True)
class Term:
    """weight · loss(student tap, teacher tap), summed over the tensors of the tap.

    Args:
        compared: the tap in words, for the plan.
        columns: of the tap's tensors, those that are compared; None = all.
    """

    name: str
    tap: str
    weight: float
    loss: nn.Module
    spec: LossSpec
    compared: str = ""
    columns: tuple[int, ...] | None = None

    @property
    def learned(self) -> str:
        """Where its learned parts are among the adapters, if it has any."""
        return f"{self.name}_learned"

    def __str__(self) -> str:
        return f"{self.weight}·{self.name}({self.compared or self.tap})"


def beside(own: Mapping[str, Tensor], distilled: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All losses of a batch, by name.

    Raises:
        UserError: one of distillation has the name of one of the model's own, and would take its place.
    """
    if both := sorted(own.keys() & distilled.keys()):
        raise UserError(f"{both[0]} is a loss of the model's own, too: give the one in LOSSES another title")
    return {**own, **distilled}


def among(columns: Sequence[int], target: Tensor) -> Tensor:
    """Targets by all columns as targets by some of them, UNLABELED where the column is none of these.

    Args:
        target: int64, of any shape, each one of the columns of class logits or UNLABELED.
    """
    numbers = target.new_full((max(columns) + 2,), UNLABELED)
    numbers[list(columns)] = torch.arange(len(columns), device=target.device)
    return numbers[target.clamp(max=max(columns) + 1)]  # UNLABELED, -1, is the last of them


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
        adapters: for terms by name one module per tensor of the tap, which the student's passes through; and by
            Term.learned those parts of losses that have parameters.
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

    @property
    def targets(self) -> set[str]:
        """The names of the taps of which the losses need what labels say, too."""
        return {term.tap for term in self.terms if term.spec.targets}

    def forward(
        self,
        student: Taps,
        teacher: Taps,
        valid: Taps | None = None,
        targets: Taps | None = None,
        inside: Inside | None = None,
    ) -> dict[str, Tensor]:
        """The losses by name, e.g. {"loss_dist": 0-dim tensor}.

        Args:
            student, teacher: the taps of both sides, those of self.taps at least.
            valid: for taps of class logits by name the rows that count (see the losses); of others all do.
            targets: what labels say, for those of self.targets (see TapSpec).
            inside: for taps of maps by name the places that are no padding.
        """
        factor = self.schedule.now()
        more = valid or {}, targets or {}, inside or {}
        return {f"loss_{t.name}": factor * t.weight * self._sum(t, student, teacher, *more) for t in self.terms}

    def _sum(self, term: Term, student: Taps, teacher: Taps, valid: Taps, targets: Taps, inside: Inside) -> Tensor:
        ours, theirs = student[term.tap], teacher[term.tap]
        masks = valid.get(term.tap) if term.spec.logits else None
        labels = targets[term.tap] if term.spec.targets else None
        if term.columns is not None:
            ours, theirs = ([x[:, list(term.columns)] for x in side] for side in (ours, theirs))
            labels = labels and [among(term.columns, x) for x in labels]
        if term.name in self.adapters:
            adapters = list(self.adapters[term.name].children())
            ours = [adapter(x) for adapter, x in zip(adapters, ours, strict=True)]
        learned = list(self.adapters[term.learned].children()) if term.learned in self.adapters else []
        losses = []
        seen = inside.get(term.tap, [None] * len(ours))
        for number, (s, t) in enumerate(zip(ours, theirs, strict=True)):
            mask: tuple[Tensor, ...] = () if masks is None else (masks[number],)
            if (places := seen[number]) is not None:
                if term.spec.padding:
                    mask = (places,)
                elif s.shape == t.shape:
                    s = s.where(places[:, None], t.to(s.dtype))
            label = {} if labels is None else {"target": labels[number]}
            # A batch may sample no RoI at all; every process must still take part in the same losses.
            losses.append(term.loss(s, t, *mask, **label) if s.numel() else term.spec.empty(term.loss, s, t))
            if learned:
                losses.append(learned[number](s, t, *(mask if term.spec.padding else ())))
        return torch.stack(losses).sum()

    def __str__(self) -> str:
        plan = " + ".join(["task", *map(str, self.terms)])
        return f"{plan} (distillation {self.schedule})" if str(self.schedule) else plan
