"""Student and teacher have to mean the same classes."""

from collections.abc import Sequence

from common.errors import UserError


def check_same_classes(student: Sequence[str], teacher: Sequence[str]) -> None:
    """Make sure that two lists of class names are the same.

    Raises:
        UserError: another number of classes, or other names or another order.
    """
    if len(student) != len(teacher):
        raise UserError(
            f"the student has {len(student)} classes, the teacher {len(teacher)}; "
            "distillation needs the same classes in the same order"
        )
    for number, (ours, theirs) in enumerate(zip(student, teacher, strict=True)):
        if ours != theirs:
            raise UserError(
                f"class {number} is {ours} in the student's data set, {theirs} in the teacher's; "
                "distillation needs the same classes in the same order"
            )
