"""From a student's config to its teacher: a detector of Detectron2, or the boxes of another project's."""

import logging
from typing import Any

from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY, Backbone

from densedist.common.config import load, trust
from densedist.common.config.functions import NAME, call
from densedist.common.config.keys import value_of
from densedist.common.distill.checks import check_same_classes, check_trained
from densedist.common.distill.classes import ClassMap, asked_names, read_class_map
from densedist.common.distill.speed import compile_parts
from densedist.common.distill.teacher import TeacherModel, precision, teacher_stream
from densedist.common.engine.checkpoint import load_complete
from densedist.common.errors import UserError
from densedist.common.randomness import kept_random_state
from densedist.common.run_classes import refuse_exchanged_classes
from densedist.common.writers import is_foreign, writers
from densedist.det.architectures import class_count, classes_key
from densedist.det.config import GRAMMAR, keeps_boxes, without_distillation
from densedist.det.data.classes import declared_classes, known_classes
from densedist.det.datasets import class_labels
from densedist.det.foreign.detector import ForeignDetector, blank
from densedist.det.modeling.inheriting import heritage
from densedist.det.models import build, load_trained
from densedist.det.teacher.foreign import ForeignTeacher
from densedist.det.teacher.kept import KeptBoxes, KeptMaps
from densedist.det.teacher.teacher import DetTeacher

logger = logging.getLogger(__name__)
KEY = "DISTILL.TEACHER.WEIGHTS"
# Keys of DISTILL that a teacher of boxes has no use for, with their defaults.
NO_USE: dict[str, object] = {
    "TEACHER.INPUT_SCALE": 1.0,
    **dict.fromkeys(("TEACHER.CACHE_MAPS", "TEACHER.STREAM", "TEACHER.COMPILE"), False),
    "INHERIT": [],
}


def load_teacher(student_cfg: CfgNode, of_boxes: bool = False) -> DetTeacher:
    """Return the teacher that DISTILL.TEACHER of the student's config names, on the student's device.

    Args:
        of_boxes: whether DISTILL.TEACHER.CACHE may keep no more than the teacher's boxes for this kind of student.

    Raises:
        UserError: see load_teacher_model; or keys that do not go together.
    """
    node = student_cfg.DISTILL.TEACHER
    if is_of_boxes(node):
        return _load_foreign(student_cfg)
    _check_cache(node, of_boxes)
    kind = KeptBoxes if keeps_boxes(student_cfg) else KeptMaps if node.CACHE else DetTeacher
    loaded = load_teacher_model(student_cfg)
    inherited = heritage(loaded.model, student_cfg.DISTILL.INHERIT)
    given = loaded.flipped, precision(student_cfg), loaded.classes
    teacher = kind(loaded.model, *given, scale=node.INPUT_SCALE, stages=node.CASCADE_STAGES)
    teacher.heritage = inherited
    compile_parts(student_cfg, [(teacher.model, "backbone")])
    teacher.stream = teacher_stream(student_cfg)
    return teacher


def is_of_boxes(teacher: CfgNode) -> bool:
    """Return whether a teacher is a detector that Detectron2 does not build. A function whose KIND is not said gives
    one that it does.

    Args:
        teacher: DISTILL.TEACHER of the student's config.
    """
    return is_foreign(teacher) and not (NAME.fullmatch(teacher.WEIGHTS) and teacher.KIND == "auto")


def _load_foreign(student_cfg: CfgNode) -> ForeignTeacher:
    """Return the detector that DISTILL.TEACHER of the student's config names, as it labels.

    Raises:
        UserError: see load_foreign and read_class_map; or a key that such a teacher has no use for.
    """
    node, ours = student_cfg.DISTILL.TEACHER, class_labels(student_cfg)
    for name, only in NO_USE.items():
        if (value := value_of(student_cfg, f"DISTILL.{name}")) != only:
            raise UserError(
                f"DISTILL.{name} is {value}, and the teacher {node.WEIGHTS} gives boxes with class scores alone: leave "
                f"it at {only}"
            )
    (files,) = writers(student_cfg, GRAMMAR)
    with kept_random_state(student_cfg.MODEL.DEVICE):
        trained = load_trained(files, asked_names(node.CLASSES, ours))
    classes = read_class_map(node.CLASSES, ours, trained.classes, node.MISSING_CLASSES == "leave_out")
    flipped = student_cfg.INPUT.FORMAT != trained.cfg.INPUT.FORMAT
    assert isinstance(trained.model, ForeignDetector)
    teacher = ForeignTeacher(trained.model, flipped, classes, precision(student_cfg), bool(node.CACHE))
    teacher.look([blank()])  # what it fails at is said before training
    return teacher


def _check_cache(node: CfgNode, of_boxes: bool) -> None:
    if not node.CACHE:
        return
    if node.INPUT_SCALE != 1:
        raise UserError(
            "DISTILL.TEACHER.CACHE keeps the teacher's output for images of the student's size: set "
            "DISTILL.TEACHER.INPUT_SCALE to 1"
        )
    if not (node.CACHE_MAPS or of_boxes):
        raise UserError(
            "DISTILL.TEACHER.CACHE keeps the boxes of a two-stage teacher, which a one-stage detector does not have: "
            "set DISTILL.TEACHER.CACHE_MAPS to True, or leave it empty"
        )


def load_teacher_model(student_cfg: CfgNode) -> TeacherModel[Any]:
    """Return the model that DISTILL.TEACHER of the student's config names, on the student's device.

    One that another project builds needs no WEIGHTS: MODEL.META_ARCHITECTURE of the teacher's config names a registered
    function of a config that gives a trained model. Or WEIGHTS is a function without arguments, "module:function", of a
    module of IMPORTS, and CONFIG_FILE may be empty.

    Raises:
        UserError: a missing config or weights, weights that do not fit or were never trained, classes that are not
            the student's, or a model without a backbone of Detectron2.
    """
    is_function = NAME.fullmatch(student_cfg.DISTILL.TEACHER.WEIGHTS)
    with kept_random_state(student_cfg.MODEL.DEVICE):  # the student's run stays as without a teacher
        return _from_function(student_cfg) if is_function else _from_config(student_cfg)


def _config(student_cfg: CfgNode) -> CfgNode:
    """Return the teacher's config; without CONFIG_FILE the default one."""
    node = student_cfg.DISTILL.TEACHER
    # Where it runs and whom to trust is not for the teacher's author to say.
    words = ["MODEL.DEVICE", student_cfg.MODEL.DEVICE, *trust.words(student_cfg)]
    cfg = load(GRAMMAR, node.CONFIG_FILE, words, "DISTILL.TEACHER.CONFIG_FILE", trusted=False)
    if node.FORMAT:
        cfg.INPUT.FORMAT = node.FORMAT
    return cfg


def _from_function(student_cfg: CfgNode) -> TeacherModel[Any]:
    """Return the model that the function in WEIGHTS gives, as its author has it."""
    node, cfg = student_cfg.DISTILL.TEACHER, _config(student_cfg)
    source = f"{KEY}: {node.WEIGHTS}"
    model: Any = call(node.WEIGHTS, [*student_cfg.IMPORTS, *cfg.IMPORTS], KEY)
    _check_detector(model, source, "; for one that gives boxes, scores and labels set DISTILL.TEACHER.KIND to function")
    classes = _classes(student_cfg, cfg if node.CONFIG_FILE else None, model)
    model.to(student_cfg.MODEL.DEVICE)
    check_trained(model, source)
    return TeacherModel(model, student_cfg.INPUT.FORMAT != cfg.INPUT.FORMAT, classes)


def _from_config(student_cfg: CfgNode) -> TeacherModel[Any]:
    """Return the model of CONFIG_FILE, with WEIGHTS if it has not its own."""
    node = student_cfg.DISTILL.TEACHER
    if not node.CONFIG_FILE:  # of one in MORE: that of TEACHER itself is seen before
        raise UserError(f"{KEY} is set, but DISTILL.TEACHER.CONFIG_FILE is empty: name its config")
    cfg = _config(student_cfg)
    model: Any = build(without_distillation(cfg))
    _check_detector(model, "DISTILL.TEACHER.CONFIG_FILE")
    classes = _classes(student_cfg, cfg, model)
    if node.WEIGHTS or isinstance(META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE), type):
        load_complete(model, node.WEIGHTS, KEY, student_cfg.MODEL.TRUST_PICKLE)
        check_trained(model, f"{KEY}: {node.WEIGHTS}")
    else:  # a registered function gives a trained model
        check_trained(model, f"DISTILL.TEACHER.CONFIG_FILE: {cfg.MODEL.META_ARCHITECTURE}")
    return TeacherModel(model, student_cfg.INPUT.FORMAT != cfg.INPUT.FORMAT, classes)


def _check_detector(model: Any, source: str, more: str = "") -> None:
    """Refuse a model without a backbone and a preprocessing as Detectron2's detectors have them.

    Args:
        source: what gave it, for messages.
        more: ends the message.
    """
    if not (isinstance(getattr(model, "backbone", None), Backbone) and hasattr(model, "preprocess_image")):
        raise UserError(
            f"{source}: {type(model).__name__} is not a detector with a backbone, as R-CNNs and RetinaNets are{more}"
        )


def _classes(student: CfgNode, teacher: CfgNode | None, model: Any) -> ClassMap | None:
    """Return how the classes of a teacher's model become the student's; None where they are the same.

    Args:
        teacher: its config, which may name its classes; the data set that it names may be another one here.

    Raises:
        UserError: another number of classes, other names or another order, and no map; or a wrong map.
    """
    count, node = class_count(student), student.DISTILL.TEACHER
    theirs_count: int = getattr(model, "num_classes", 0) or model.roi_heads.num_classes
    ours, theirs = known_classes(student), None if teacher is None else declared_classes(teacher)
    refuse_exchanged_classes(theirs or (), node.WEIGHTS, KEY)
    if node.CLASSES or node.MISSING_CLASSES == "leave_out":
        names = theirs or [str(number) for number in range(theirs_count)]
        return read_class_map(node.CLASSES, class_labels(student), names, node.MISSING_CLASSES == "leave_out")
    if count != theirs_count:
        raise UserError(
            f"{classes_key(student)}: the student has {count} classes, the teacher {theirs_count}; distillation needs "
            "the same classes in the same order, or DISTILL.TEACHER.CLASSES"
        )
    if ours is None or theirs is None:
        why = "the student's data set is unknown" if ours is None else "the teacher's config does not name its own"
        logger.info(f"{count} classes on both sides; their order is not checked, as {why}")
    else:
        check_same_classes(ours, theirs)
        logger.info(f"student and teacher have the same {count} classes in the same order")
    return None
