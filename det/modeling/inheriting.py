"""A student that starts from parts of its teacher: DISTILL.INHERIT."""

import logging
from collections.abc import Mapping, Sequence

import torch
from detectron2.modeling.roi_heads import CascadeROIHeads
from torch import Tensor, nn

from densedist.common.errors import UserError

logger = logging.getLogger(__name__)
KEY = "DISTILL.INHERIT"
PARTS = ("neck", "head")
# Of a cascade's box heads the first is the one that a detector with a single one has.
FIRST_STAGE = ("roi_heads.box_head.0.", "roi_heads.box_predictor.0.")


def part_of(name: str) -> str:
    """Return the part that the tensor of that name belongs to: "neck", of the backbone what is not bottom_up; "head",
    all after the backbone; "" the rest."""
    if not name.startswith("backbone."):
        return "head"
    return "" if name.startswith("backbone.bottom_up.") else "neck"


def heritage(teacher: nn.Module, parts: Sequence[str]) -> dict[str, Tensor]:
    """Copy the tensors of a teacher's parts as they were trained: before its norms are fused, and its numbers cast.

    Args:
        parts: of PARTS.
    """
    return {name: x.clone() for name, x in teacher.state_dict().items() if part_of(name) in parts}


@torch.no_grad()
def inherit(student: nn.Module, given: Mapping[str, Tensor], parts: Sequence[str]) -> None:
    """Copy the teacher's neck or head, or both, where names and shapes agree; the log says in one line where not.

    A single box head takes that of a cascade's first stage.

    Args:
        given: by heritage, of the teacher.
        parts: of PARTS.

    Raises:
        UserError: nothing of a part agrees.
    """
    theirs = _renamed(student, given)
    for part in parts:
        ours = {name: x for name, x in student.state_dict().items() if part_of(name) == part}
        same = [name for name, x in ours.items() if name in theirs and theirs[name].shape == x.shape]
        if not same:
            raise UserError(f"{KEY}: the student has no {part} like its teacher's: {_difference(ours, theirs)}")
        for name in same:
            ours[name].copy_(theirs[name])
        rest = [name for name in ours if name not in same]
        words = f"; not, for their names or shapes: {', '.join(rest)}" if rest else ""
        logger.info(f"{KEY}: {len(same)} of the {len(ours)} tensors of the {part} are the teacher's{words}")


def _renamed(student: nn.Module, theirs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    if isinstance(getattr(student, "roi_heads", None), CascadeROIHeads):
        return theirs
    stage = {name: x for name, x in theirs.items() if name.startswith(FIRST_STAGE)}
    return {**theirs, **{name.replace(".0.", ".", 1): x for name, x in stage.items()}}


def _difference(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> str:
    if not ours:
        return "it has none"
    name, first = next(iter(ours.items()))
    shape = tuple(theirs[name].shape) if name in theirs else "not there"
    return f"{name} is {tuple(first.shape)}, the teacher's {shape}"
