"""Teachers that do not fit: of other classes than the student, or never trained."""

from collections.abc import Sequence

from torch import nn

from densedist.common.errors import UserError


def check_same_classes(student: Sequence[str], teacher: Sequence[str]) -> None:
    """Make sure that two lists of class names are the same.

    Raises:
        UserError: another number of classes, or other names or another order.
    """
    if len(student) != len(teacher):
        raise UserError(
            f"the student has {len(student)} classes, the teacher {len(teacher)}; "
            "distillation needs the same classes in the same order, or DISTILL.TEACHER.CLASSES"
        )
    for number, (ours, theirs) in enumerate(zip(student, teacher, strict=True)):
        if ours != theirs:
            raise UserError(
                f"class {number} is {ours} in the student's data set, {theirs} in the teacher's; "
                "distillation needs the same classes in the same order, or DISTILL.TEACHER.CLASSES"
            )


def check_trained(model: nn.Module, source: str) -> None:
    """Make sure that every part of a model has been trained.

    Biases and normalization weights start as all 0, all 1 or another constant, and any training step makes their
    values differ from one another. So a part (a direct child: backbone, roi_heads, decoder, …) whose vectors are
    all constant was never trained. A part with no vector of trainable parameters (a frozen backbone, say) tells
    nothing; weights that are random from the start do not either.

    Args:
        source: where the weights come from, for the message.

    Raises:
        UserError: naming the part.
    """
    for name, part in model.named_children():
        vectors = [p for p in part.parameters() if p.requires_grad and p.dim() == 1 and len(p) > 1]
        if vectors and all(bool((v == v[0]).all()) for v in vectors):
            raise UserError(
                f"{source}: {name} was never trained: all of its {len(vectors)} biases and normalization weights are "
                "as they were initialized; give the weights of a trained model"
            )
