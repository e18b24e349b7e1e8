"""What a training is going to do, said before it starts."""

from torch import nn

from densedist.common.distill.distiller import Distiller
from densedist.common.distill.teacher import Teacher


def describe(student: nn.Module, teacher: Teacher | None, distiller: Distiller | None) -> str:
    """The plan: student, teacher, the parameters of each, and the loss."""
    lines = ["plan", f"  student  {_model(student)}"]
    if teacher is None or distiller is None:
        lines += ["  teacher  none: an ordinary training", "  loss     task"]
    else:
        lines += [f"  teacher  {_model(teacher.model)}", f"  loss     = {distiller}"]
    return "\n".join(lines)


def _model(model: nn.Module) -> str:
    parts = [part for part in model.children() if not isinstance(part, Distiller)]
    names = " + ".join(type(part).__name__ for part in parts)
    millions = sum(parameter.numel() for part in parts for parameter in part.parameters()) / 1e6
    return f"{type(model).__name__} ({names}), {millions:.2f} M parameters"
