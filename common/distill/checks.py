"""Teachers that do not fit: of other classes than the student, or never trained."""

import logging
from collections.abc import Sequence

from torch import nn

from densedist.common.distill.classes import plain
from densedist.common.errors import UserError

logger = logging.getLogger(__name__)


def check_same_classes(student: Sequence[str], teacher: Sequence[str]) -> None:
    """Make sure that two lists of class names are the same, but for blanks around them.

    Raises:
        UserError: another number of classes, or other names or another order.
    """
    if len(student) != len(teacher):
        raise UserError(
            f"the student has {len(student)} classes, the teacher {len(teacher)}; "
            "distillation needs the same classes in the same order, or DISTILL.TEACHER.CLASSES"
        )
    for number, (ours, theirs) in enumerate(zip(student, teacher, strict=True)):
        if plain(ours) != plain(theirs):
            raise UserError(
                f"class {number} is {ours} in the student's data set, {theirs} in the teacher's; "
                "distillation needs the same classes in the same order, or DISTILL.TEACHER.CLASSES"
            )


def check_order(ours: Sequence[str], theirs: Sequence[str], source: str) -> None:
    """Make sure that weights do not have the classes of DATASETS.CLASSES in another order; warn of other names.

    Args:
        ours, theirs: as many names, of the config's classes and of those that the weights name.
        source: what names the weights, for messages.

    Raises:
        UserError: a class of the config is at another place in the weights.
    """
    ours, theirs = [plain(name) for name in ours], [plain(name) for name in theirs]
    for number, name in enumerate(ours):
        if name in theirs and theirs[number] != name:
            raise UserError(
                f"{source} has {name} as its class {theirs.index(name)}, DATASETS.CLASSES as class {number}: put "
                "DATASETS.CLASSES into its order"
            )
    if other := [number for number, name in enumerate(ours) if theirs[number] != name]:
        logger.warning(
            f"{source} calls class {other[0]} {theirs[other[0]]}, DATASETS.CLASSES {ours[other[0]]}: they are taken to "
            "be the same"
        )


def check_trained(model: nn.Module, source: str) -> None:
    """Make sure that every part of a model has been trained.

    Biases and normalization weights start as all 0, all 1 or another constant, and any training step makes their
    values differ from one another. So a part (a direct child: backbone, roi_heads, decoder, …) whose vectors are
    all constant was never trained. A part with no vector of trainable parameters (a frozen backbone, say) shows
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
