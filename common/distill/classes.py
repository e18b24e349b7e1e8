"""A teacher of other classes: its class logits as logits of the student's classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from densedist.common.distill.indices import columns_of, on_device
from densedist.common.errors import UserError
from densedist.common.losses.checks import Activation, widen

KEY = "DISTILL.TEACHER.CLASSES"
FAR_BELOW = 30.0  # in logits: a probability of at most 1e-13


def plain(name: object) -> str:
    """Return a class's name as it is compared: without blanks around it, and with single ones within."""
    return " ".join(str(name).split())


@dataclass(frozen=True)
class ClassMap:
    """Which of a teacher's columns make up each of the student's.

    Args:
        columns: of the student's class logits.
        kept: those of them that have a counterpart, in order; losses on class logits see these alone, on both sides.
        groups: for each of these the teacher's columns.
    """

    columns: int
    kept: tuple[int, ...]
    groups: tuple[tuple[int, ...], ...]

    @property
    def numbers(self) -> dict[int, int]:
        """Return the student's column by the teacher's column, of those that have a counterpart."""
        return {c: ours for ours, group in zip(self.kept, self.groups, strict=True) for c in group}

    def of_teacher(self, logits: Tensor, activation: Activation) -> Tensor:
        """Convert the teacher's logits (R, its columns, *) to (R, columns, *).

        For a softmax each is the log of its group's summed exponentials: the softmax of the result has the teacher's
        probabilities summed by group and divided by what all groups have together. For sigmoids it is the highest of
        its group. A temperature comes after this. A column without a group is FAR_BELOW all others.
        """
        singles = tuple(group[0] for group in self.groups if len(group) == 1)
        if len(singles) == len(self.groups):
            known = columns_of(logits, singles)
        elif activation == "sigmoid":
            known = torch.cat([columns_of(logits, group).amax(1, keepdim=True) for group in self.groups], 1)
        else:
            known = torch.cat([columns_of(logits, group).logsumexp(1, keepdim=True) for group in self.groups], 1)
        if len(self.kept) == self.columns:
            return known
        # Not minus infinity, which no interpolation survives.
        lowest = (known.amin(1, keepdim=True) - FAR_BELOW).clamp(min=torch.finfo(known.dtype).min)
        result = lowest.expand(-1, self.columns, *lowest.shape[2:]).clone()
        return result.index_copy_(1, on_device(self.kept, logits.device), known)

    def mass(self, logits: Tensor) -> Tensor:
        """Return the probability of all groups together, (R, *), by softmax logits (R, the teacher's columns, *)."""
        inside = columns_of(widen(logits), tuple(sorted(column for group in self.groups for column in group)))
        return (inside.logsumexp(1) - widen(logits).logsumexp(1)).exp()

    def tiled(self, times: int, teacher_columns: int) -> "ClassMap":
        """Return the same map for logits that repeat all classes for each anchor.

        Args:
            teacher_columns: of one anchor.
        """
        kept = [n * self.columns + column for n in range(times) for column in self.kept]
        groups = [tuple(n * teacher_columns + c for c in group) for n in range(times) for group in self.groups]
        return ClassMap(times * self.columns, tuple(kept), tuple(groups))

    def with_background(self, teacher_classes: int) -> "ClassMap":
        """Return the same map for logits with a background after the classes, where unknown classes are background."""
        known = {column for group in self.groups for column in group}
        rest = tuple(column for column in range(teacher_classes + 1) if column not in known)
        return ClassMap(self.columns + 1, (*self.kept, self.columns), (*self.groups, rest))


def asked_names(given: Mapping[str, Any], student: Sequence[str]) -> list[str]:
    """Return the teacher's classes that DISTILL.TEACHER.CLASSES names; a class that it does not name has its own name.

    Args:
        given: a name, or a list of names, by name.
        student: the names of all of its classes, in order.
    """
    groups = {plain(name): words for name, words in given.items()}
    found = [groups.get(plain(name), name) for name in student]
    return [plain(word) for words in found for word in (words if isinstance(words, (list, tuple)) else [words])]


def read_class_map(
    given: Mapping[str, Any], student: Sequence[str], teacher: Sequence[str], may_lack: bool
) -> ClassMap:
    """Read DISTILL.TEACHER.CLASSES: for each of the student's classes one or more of the teacher's. A class that is
    not named there has the same name on both sides.

    Args:
        given: a name, or a list of names, by name.
        student, teacher: the names of all classes, in order; compared as by plain().
        may_lack: whether a student's class may have no counterpart.

    Raises:
        UserError: a name that is not there, a teacher's class that is named twice, or a class without counterpart.
    """
    given = {plain(name): words for name, words in given.items()}
    student, teacher = [plain(name) for name in student], [plain(name) for name in teacher]
    if unknown := [name for name in given if name not in student]:
        raise UserError(f"{KEY}: the student has no class {unknown[0]}; its classes are {', '.join(student)}")
    kept, groups, taken = [], [], dict[str, str]()
    for number, name in enumerate(student):
        words = given.get(name, [name] if name in teacher else [])
        names = [plain(word) for word in words] if isinstance(words, (list, tuple)) else [plain(words)]
        for theirs in names:
            if theirs not in teacher:
                raise UserError(
                    f"{KEY}: {name} is made of {theirs}, which the teacher does not have; its classes are "
                    f"{', '.join(teacher)}"
                )
            if theirs in taken:
                raise UserError(f"{KEY}: the teacher's {theirs} is in both {taken[theirs]} and {name}: name it once")
            taken[theirs] = name
        if names:
            kept.append(number)
            groups.append(tuple(teacher.index(theirs) for theirs in names))
        elif not may_lack:
            raise UserError(
                f"{KEY}: {name} has no counterpart among the teacher's classes: name them, or set "
                "DISTILL.TEACHER.MISSING_CLASSES to leave_out, which takes this class out of the losses on class logits"
            )
    if not kept:
        raise UserError(
            f"{KEY}: none of the student's classes has a counterpart among the teacher's: {', '.join(teacher)}"
        )
    return ClassMap(len(student), tuple(kept), tuple(groups))
