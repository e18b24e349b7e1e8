"""What is added to a student's training: a teacher, and the losses between its taps and the student's."""

from typing import Generic, TypeVar

from torch import nn

from densedist.common.distill.distiller import Distiller
from densedist.common.distill.teacher import Teacher

T = TypeVar("T", bound=Teacher)


class Distillation(nn.Module, Generic[T]):
    """A part of a student in training; the teacher is in no list of parameters, modules or states.

    Args:
        teacher: frozen.
        distiller: the losses, and the adapters that are trained with the student.
        unlabeled_weight: how much images without labels count, beside 1 for others.
    """

    def __init__(self, teacher: T, distiller: Distiller, unlabeled_weight: float = 1.0) -> None:
        super().__init__()
        self.teacher, self.distiller, self.unlabeled_weight = teacher, distiller, unlabeled_weight


def describe(student: nn.Module, distillation: Distillation | None) -> str:
    """Of a run's plan student, teacher, the parameters of each, and the loss."""
    lines = [f"  student  {_model(student)}"]
    if distillation is None:
        lines += ["  teacher  none: an ordinary training run", "  loss     task"]
    else:
        lines += [f"  teacher  {_model(model)}" for model in distillation.teacher.models]
        lines += [f"  loss     = {distillation.distiller}"]
    return "\n".join(lines)


def _model(model: nn.Module) -> str:
    parts = [part for part in model.children() if not isinstance(part, Distillation)]
    names = " + ".join(type(part).__name__ for part in parts)
    if not any(True for part in parts for _ in part.parameters()):
        return f"{type(model).__name__}, which does not show its parameters"
    millions = sum(parameter.numel() for part in parts for parameter in part.parameters()) / 1e6
    return f"{type(model).__name__} ({names}), {millions:.2f} M parameters"
