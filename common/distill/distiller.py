"""From the taps of student and teacher to a dict of weighted losses."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from detectron2.config import CfgNode
from detectron2.utils.events import get_event_storage, has_event_storage
from torch import Tensor, nn

from densedist.common.distill.indices import columns_of, on_device
from densedist.common.distill.memory import Memories, Memory
from densedist.common.distill.spec import LossSpec
from densedist.common.distill.taps import UNLABELED, Tap, Taps
from densedist.common.distill.teacher import Teacher
from densedist.common.errors import UserError


@dataclass(frozen=True)
class LossWeightSchedule:
    """A factor on all distillation losses: a linear rise from 0 to 1, then constant or down to 0 at the end.

    Args:
        warmup: iterations of the rise; 0 = none.
        decay: "none", "linear" or "cosine".
        iterations: of the whole run.
    """

    warmup: int = 0
    decay: str = "none"
    iterations: int = 1

    @classmethod
    def of(cls, cfg: CfgNode) -> "LossWeightSchedule":
        """Read the schedule of DISTILL.WARMUP_ITERS and DISTILL.DECAY.

        DECAY auto lets distillation fall to 0 where all images have labels: there a teacher that learned from the same
        labels ends as a hindrance. Images without labels have no other teacher, and GRADIENT_SHARE is a limit already.
        """
        decay = cfg.DISTILL.DECAY
        if decay == "auto":
            decay = "none" if cfg.DATASETS.UNLABELED or cfg.DISTILL.GRADIENT_SHARE else "linear"
        return cls(cfg.DISTILL.WARMUP_ITERS, decay, cfg.SOLVER.MAX_ITER)

    def __call__(self, iteration: int) -> float:
        """Return the factor, in [0, 1], at an iteration from 0."""
        if iteration < self.warmup:
            return iteration / self.warmup
        done = min((iteration - self.warmup) / max(self.iterations - self.warmup, 1), 1.0)
        if self.decay == "linear":
            return 1 - done
        return (1 + math.cos(math.pi * done)) / 2 if self.decay == "cosine" else 1.0

    def now(self) -> float:
        """Return the factor at the iteration that Detectron2's trainer is at; 1 outside of a run."""
        return self(get_event_storage().iter) if has_event_storage() else 1.0

    def __str__(self) -> str:
        rise = f"rising over {self.warmup} iterations" if self.warmup else ""
        fall = {"none": "", "linear": "falling linearly to 0", "cosine": "falling to 0 by a cosine"}[self.decay]
        return ", ".join(filter(None, (rise, fall)))


@dataclass(frozen=True)
class Term:
    """weight · loss(student tap, teacher tap), summed over the tensors of the tap.

    Args:
        compared: the tap in words, for the plan.
        columns: of the tap's tensors, those that are compared; None = all.
        levels: the tensors that are compared, by their number; None = all.
        memory: samples of earlier batches that are compared, too.
    """

    name: str
    tap: str
    weight: float
    loss: nn.Module
    spec: LossSpec
    compared: str = ""
    columns: tuple[int, ...] | None = None
    levels: tuple[int, ...] | None = None
    memory: int = 0

    @property
    def learned(self) -> str:
        """Return the name that its learned parts have among the adapters."""
        return f"{self.name}_learned"

    def __str__(self) -> str:
        return f"{self.weight}·{self.name}({self.compared or self.tap})"


def merge_losses(task: Mapping[str, Tensor], distilled: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return all losses of a batch, by name.

    Raises:
        UserError: a loss of distillation has the name of one of the model's own, and would take its place.
    """
    if both := sorted(task.keys() & distilled.keys()):
        raise UserError(f"the model has a loss {both[0]} already: give the one in LOSSES another title")
    return {**task, **distilled}


def among(columns: tuple[int, ...], target: Tensor) -> Tensor:
    """Return targets by all columns as targets by some of them, UNLABELED where the column is none of these.

    Args:
        target: int64, of any shape, each one of the columns of class logits or UNLABELED.
    """
    places = {column: place for place, column in enumerate(columns)}
    numbers = tuple(places.get(column, UNLABELED) for column in range(max(columns) + 2))
    return on_device(numbers, target.device)[target.clamp(max=max(columns) + 1)]  # UNLABELED, -1, is the last of them


class TrainingOnly(nn.ModuleDict):
    """Trained with the model that holds it, but no part of that model's state_dict.

    Its own state_dict() is whole, so that a checkpoint can keep it in addition to the student.
    """

    def __init__(self, modules: dict[str, nn.Module]) -> None:
        super().__init__(modules)
        self.register_load_state_dict_post_hook(_nothing_is_missing)

    def state_dict(self, *args: Any, destination: Any = None, **kwargs: Any) -> Any:
        # With a destination it is asked as a part of another module.
        return super().state_dict(*args, **kwargs) if destination is None else destination


def _nothing_is_missing(module: nn.Module, incompatible: Any) -> None:
    """Let a student's checkpoint lack these parameters; their own checkpoint, without a prefix, has to have them."""
    mine = tuple(f".{name}" for name, _ in module.named_parameters())
    incompatible.missing_keys[:] = [key for key in incompatible.missing_keys if not key.endswith(mine)]


class Distiller(nn.Module):
    """The distillation losses of a run, in the order of the plan.

    Args:
        terms: the losses.
        adapters: for terms by name one module per tensor of the tap, which the student's passes through; and by
            Term.learned those parts of losses that have parameters.
        schedule: a factor on all losses in the course of the run.
        share: of the gradient, that the engine scales all losses to; 0 = they stay as they are.
    """

    def __init__(
        self,
        terms: Sequence[Term],
        adapters: Mapping[str, nn.ModuleList] | None = None,
        schedule: LossWeightSchedule | None = None,
        share: float = 0.0,
    ) -> None:
        super().__init__()
        self.terms = tuple(terms)
        self.adapters = TrainingOnly(dict(adapters or {}))
        self.memories = Memories({term.name: Memory(term.memory) for term in self.terms if term.memory})
        self.schedule, self.share = schedule or LossWeightSchedule(), share

    @property
    def needed(self) -> set[str]:
        """Return the names of the taps that the losses need."""
        return {term.tap for term in self.terms}

    @property
    def loss_names(self) -> set[str]:
        """Return the names that the losses have among a model's, in detection those of images without labels, too."""
        return {f"loss_{term.name}{end}" for term in self.terms for end in ("", "_unlabeled")}

    @property
    def beside(self) -> dict[str, Any]:
        """Return what a checkpoint keeps in addition to the student, by name."""
        return {name: part for name, part in (("adapters", self.adapters), ("memories", self.memories)) if part}

    @property
    def targets(self) -> set[str]:
        """Return the names of the taps whose targets the losses need."""
        return {term.tap for term in self.terms if term.spec.targets}

    def forward(self, taps: Taps) -> dict[str, Tensor]:
        """Return the losses by name, e.g. {"loss_dist": 0-dim tensor}.

        Args:
            taps: by name, those of self.needed at least, with targets for those of self.targets.
        """
        factor = self.schedule.now()
        targets = {name: make() for name in self.targets if (make := taps[name].targets)}
        return {
            f"loss_{term.name}": factor * term.weight * self._sum(term, taps[term.tap], targets.get(term.tap))
            for term in self.terms
        }

    def _sum(self, term: Term, tap: Tap, targets: Sequence[Tensor] | None) -> Tensor:
        """Return the sum of a term's loss over the tensors of its tap."""
        ours, theirs, valid = tap.student, tap.teacher, tap.valid or [None] * len(tap.student)
        if tap.spatial and not term.spec.spatial:
            ours, theirs = ([x.movedim(1, -1).reshape(-1, x.shape[1]) for x in side] for side in (ours, theirs))
        labels = targets if term.spec.targets else None
        if term.columns is not None:
            ours, theirs = ([columns_of(x, term.columns) for x in side] for side in (ours, theirs))
            labels = labels and [among(term.columns, x) for x in labels]
        if term.name in self.adapters:
            adapters = list(self.adapters[term.name].children())
            ours = [adapter(x) for adapter, x in zip(adapters, ours, strict=True)]
        learned = list(self.adapters[term.learned].children()) if term.learned in self.adapters else []
        losses = []
        memory = self.memories.each.get(term.name)
        for number, (s, t, mask) in enumerate(zip(ours, theirs, valid, strict=True)):
            if term.levels is not None and number not in term.levels:
                continue
            s, masks = _masked(term.spec, s, t, mask)
            if memory is not None and s.numel():
                s, t = memory.joined(number, s, t)
            label = {} if labels is None else {"target": labels[number]}
            # A batch may sample no RoI at all; every process must still take part in the same losses.
            losses.append(term.loss(s, t, *masks, **label) if s.numel() else _without_rows(term, s, t, label))
            if learned:
                losses.append(learned[number](s, t, *(masks if term.spec.padding else ())))
        return torch.stack(losses).sum()

    def __str__(self) -> str:
        plan = " + ".join(["task", *map(str, self.terms)])
        share = f"{100 * self.share:g} % of the gradient" if self.share else ""
        factors = ", ".join(filter(None, (share, str(self.schedule))))
        return f"{plan} (distillation {factors})" if factors else plan


def _masked(
    spec: LossSpec, student: Tensor, teacher: Tensor, mask: Tensor | None
) -> tuple[Tensor, tuple[Tensor] | tuple[()]]:
    """Return the student's tensor, and the mask as the loss's third argument, if it takes one.

    A loss on class logits, or one that knows padding, takes the mask. For any other the student's values become the
    teacher's where the mask is False, so that there is nothing to learn there. Where the shapes differ, as
    those of samples with other channels do, they cannot: the mask is left out and every row counts.
    """
    if mask is None:
        return student, ()
    if spec.logits or spec.padding:
        return student, (mask,)
    if student.shape == teacher.shape:
        return student.where(mask.unsqueeze(1), teacher.to(student.dtype)), ()
    return student, ()


def _without_rows(term: Term, student: Tensor, teacher: Tensor, label: Mapping[str, Tensor]) -> Tensor:
    """Return the loss of a process that has no row, with a gradient."""
    if not term.spec.no_rows:
        return student.sum()
    return term.loss(student, teacher, valid=student.new_zeros(0, dtype=torch.bool), **label)


T = TypeVar("T", bound=Teacher)


class Distillation(nn.Module, Generic[T]):
    """A part of a student in training; the teacher is in no list of parameters, modules or states.

    Args:
        teacher: frozen.
        distiller: the losses, and the adapters that are trained with the student.
        unlabeled_weight: how much images without labels count; others count 1.
    """

    def __init__(self, teacher: T, distiller: Distiller, unlabeled_weight: float = 1.0) -> None:
        super().__init__()
        self.teacher, self.distiller, self.unlabeled_weight = teacher, distiller, unlabeled_weight


def describe(student: nn.Module, distillation: Distillation | None) -> str:
    """Return the lines of a run's plan on student, teacher, the parameters of each, and the loss.

    A model that learns from no teacher is no student.
    """
    if distillation is None:
        lines = [f"  model    {_model(student)}", "  teacher  none: an ordinary training run", "  loss     task"]
    else:
        lines = [f"  student  {_model(student)}"]
        lines += [f"  teacher  {_model(model)}" for model in distillation.teacher.models]
        if distillation.teacher.average is not None:
            lines.append("  teacher  the average of the student's weights (SOLVER.EMA_DECAY)")
        lines += [f"  loss     = {distillation.distiller}"]
    return "\n".join(lines)


def _model(model: nn.Module) -> str:
    parts = [part for part in model.children() if not isinstance(part, Distillation)]
    names = " + ".join(type(part).__name__ for part in parts)
    if not any(True for part in parts for _ in part.parameters()):
        return f"{type(model).__name__}, number of parameters unknown"
    millions = sum(parameter.numel() for part in parts for parameter in part.parameters()) / 1e6
    return f"{type(model).__name__} ({names}), {millions:.2f} M parameters"
