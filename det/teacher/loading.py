"""From a student's config to the model of its teacher: any Detectron2 model, of a config or of a function."""

import logging
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn

from densedist.common.config import load
from densedist.common.distill.checks import check_same_classes, check_trained
from densedist.common.distill.classes import ClassMap, read_class_map
from densedist.common.engine.checkpoint import load_complete
from densedist.common.errors import UserError
from densedist.common.foreign import NAME, call
from densedist.det.config import GRAMMAR, without_distillation
from densedist.det.data.sets import class_labels, known_classes, register_coco_format
from densedist.det.distilling import count_classes
from densedist.det.models import build

logger = logging.getLogger(__name__)
M = TypeVar("M", bound=nn.Module)
KEY = "DISTILL.TEACHER.WEIGHTS"


@dataclass(frozen=True)
class TeacherModel(Generic[M]):
    """A teacher before it is held.

    Args:
        model: with its weights.
        flipped: it wants the student's images with their channels the other way round.
        classes: how its classes become the student's; None = they are the same.
    """

    model: M
    flipped: bool
    classes: ClassMap | None


def load_teacher_model(student_cfg: CfgNode, kind: type[M]) -> TeacherModel[M]:
    """The model that DISTILL.TEACHER of the student's config names, on the student's device.

    One that another project builds needs no WEIGHTS: MODEL.META_ARCHITECTURE of the teacher's config names a registered
    function of a config that gives a trained model. Or WEIGHTS is a function without arguments, "module:function", of a
    module of IMPORTS, and CONFIG_FILE may be empty.

    Raises:
        UserError: a missing config or weights, weights that do not fit or were never trained, classes that are not
            the student's, or a model that is no `kind`.
    """
    node = student_cfg.DISTILL.TEACHER
    # Where it runs and whom to trust is not for the teacher's author to say.
    own = ["MODEL.DEVICE", student_cfg.MODEL.DEVICE, "TRUST_IMPORTS", str(student_cfg.TRUST_IMPORTS)]
    cfg = load(GRAMMAR, node.CONFIG_FILE, own, "DISTILL.TEACHER.CONFIG_FILE", own=False)
    if node.FORMAT:
        cfg.INPUT.FORMAT = node.FORMAT
    register_coco_format(cfg)
    called = bool(NAME.fullmatch(node.WEIGHTS))
    if not (node.CONFIG_FILE or called):  # of one in MORE: that of TEACHER itself is seen before
        raise UserError(f"{KEY} is set, but DISTILL.TEACHER.CONFIG_FILE is empty: name its config")
    model: Any
    with torch.random.fork_rng():  # its initial weights are overwritten; the student's run stays as without it
        if called:
            model = call(node.WEIGHTS, [*student_cfg.IMPORTS, *cfg.IMPORTS], KEY)
        else:
            model = build(without_distillation(cfg))
    source = f"{KEY}: {node.WEIGHTS}"
    if not isinstance(model, kind):
        raise UserError(
            f"{source if called else 'DISTILL.TEACHER.CONFIG_FILE'}: {type(model).__name__} is no {kind.__name__}"
        )
    classes = _classes(student_cfg, cfg if node.CONFIG_FILE else None, model)
    if called:
        model.to(student_cfg.MODEL.DEVICE)
    elif node.WEIGHTS or isinstance(META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE), type):
        load_complete(model, node.WEIGHTS, KEY, student_cfg.MODEL.TRUST_PICKLE)
    else:  # a function gives a model as its author has it
        source = f"DISTILL.TEACHER.CONFIG_FILE: {cfg.MODEL.META_ARCHITECTURE}"
    check_trained(model, source)
    return TeacherModel(model, student_cfg.INPUT.FORMAT != cfg.INPUT.FORMAT, classes)


def _classes(student: CfgNode, teacher: CfgNode | None, model: Any) -> ClassMap | None:
    """How the classes of a teacher's model become the student's; None where they are the same.

    Args:
        teacher: its config, which may name its classes.

    Raises:
        UserError: another number of classes, other names or another order, and no map; or a wrong map.
    """
    (count, key), node = count_classes(student), student.DISTILL.TEACHER
    theirs_count: int = getattr(model, "num_classes", 0) or model.roi_heads.num_classes
    ours, theirs = known_classes(student), None if teacher is None else known_classes(teacher)
    if node.CLASSES or node.MISSING_CLASSES == "leave_out":
        names = theirs or [str(number) for number in range(theirs_count)]
        return read_class_map(node.CLASSES, class_labels(student), names, node.MISSING_CLASSES == "leave_out")
    if count != theirs_count:
        raise UserError(
            f"{key}: the student has {count} classes, the teacher {theirs_count}; distillation needs the same classes "
            "in the same order, or DISTILL.TEACHER.CLASSES"
        )
    if ours is None or theirs is None:
        side = "student" if ours is None else "teacher"
        logger.info(f"{count} classes on both sides; their order is not checked, as the {side}'s data set is unknown")
    else:
        check_same_classes(ours, theirs)
        logger.info(f"student and teacher have the same {count} classes in the same order")
    return None
