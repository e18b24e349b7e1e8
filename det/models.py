"""Any Detectron2 model as a teacher: built from its own config, filled with its weights, same classes."""

import logging
from typing import TypeVar

import torch
from detectron2.config import CfgNode, get_cfg
from torch import nn

from densedist.common.engine.checkpoint import load_complete
from densedist.common.distill.checks import check_same_classes
from densedist.common.config.merge import find_config, merge
from densedist.common.errors import UserError
from densedist.common.distill.checks import check_trained
from densedist.det.models import build
from densedist.det.config import add_distill_config, count_classes, without_distillation
from densedist.det.data import known_classes, register_coco_format

logger = logging.getLogger(__name__)
M = TypeVar("M", bound=nn.Module)


def load_model(student_cfg: CfgNode, kind: type[M]) -> tuple[M, bool]:
    """The model that DISTILL.TEACHER of the student's config names, on the student's device.

    Returns:
        the model, and whether it wants the student's images with their channels the other way round.

    Raises:
        UserError: a missing config or weights, weights that do not fit or were never trained, classes other than
            the student's, or a model that is no `kind`.
    """
    node = student_cfg.DISTILL.TEACHER
    cfg = get_cfg()
    add_distill_config(cfg)
    merge(cfg, find_config(node.CONFIG_FILE, "DISTILL.TEACHER.CONFIG_FILE"), ["MODEL.DEVICE", student_cfg.MODEL.DEVICE])
    register_coco_format(cfg)
    formats = {"student": student_cfg.INPUT.FORMAT, "teacher": cfg.INPUT.FORMAT}
    for side, value in formats.items():
        if value not in ("BGR", "RGB"):
            raise UserError(f"INPUT.FORMAT of the {side} is {value}: want BGR or RGB")
    with torch.random.fork_rng():  # its initial weights are overwritten; the student's run stays as without it
        model = build(without_distillation(cfg))
    if not isinstance(model, kind):
        raise UserError(f"DISTILL.TEACHER.CONFIG_FILE: {type(model).__name__} is no {kind.__name__}")
    logger.info(check_classes(student_cfg, cfg))
    load_complete(model, node.WEIGHTS, "DISTILL.TEACHER.WEIGHTS", student_cfg.MODEL.TRUST_PICKLE)
    check_trained(model, f"DISTILL.TEACHER.WEIGHTS: {node.WEIGHTS}")
    return model, formats["student"] != formats["teacher"]


def check_classes(student: CfgNode, teacher: CfgNode) -> str:
    """What could be found out about the classes of both configs, in words for the log.

    Raises:
        UserError: another number of classes, or other names or another order.
    """
    counts, keys = zip(count_classes(student), count_classes(teacher), strict=True)
    if counts[0] != counts[1]:
        raise UserError(
            f"{keys[0]}: the student has {counts[0]} classes, the teacher "
            f"{counts[1]}; distillation needs the same classes in the same order"
        )
    ours, theirs = known_classes(student), known_classes(teacher)
    if ours is None or theirs is None:
        side = "student" if ours is None else "teacher"
        return f"{counts[0]} classes on both sides; their order is not checked, as the {side}'s data set is unknown"
    check_same_classes(ours, theirs)
    return f"student and teacher have the same {counts[0]} classes in the same order"


#### MERGED FROM det.building
"""Detectron2's models, with a misspelt name refused in one line."""

import re

from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from densedist.common.errors import UserError

UNKNOWN = re.compile(r"No object named '(.*)' found in '(.*)' registry!")


def build(cfg: CfgNode) -> nn.Module:
    """Detectron2's build_model.

    Raises:
        UserError: a name under MODEL that is registered nowhere.
    """
    try:
        return build_model(cfg)
    except KeyError as error:
        if unknown := UNKNOWN.fullmatch(str(error.args[0])):
            name, registry = unknown.groups()
            raise UserError(f"MODEL: Detectron2 has no {registry} named {name}: correct that name") from error
        raise


#### MERGED FROM det.trained
"""A trained detector from its checkpoint and what lies beside it; no data set is needed."""

from collections.abc import Sequence
from dataclasses import dataclass

from detectron2.config import CfgNode
from torch import nn

from densedist.common.engine.checkpoint import load_complete
from densedist.common.engine.locate import locate
from densedist.det.models import build
from densedist.det.config import without_distillation
from densedist.det.data import class_labels, register_coco_format
from densedist.det.task import read_config


@dataclass(frozen=True)
class Trained:
    """A plain Detectron2 model in eval mode, its config without a teacher, and the names of its classes."""

    cfg: CfgNode
    model: nn.Module
    classes: tuple[str, ...]


def load_trained(weights: str, config_file: str = "", overrides: Sequence[str] = (), key: str = "--weights") -> Trained:
    """
    Args:
        weights: a checkpoint, or the OUTPUT_DIR of a finished training.
        config_file: default: the config.yaml beside the weights.
        key: what names the weights, for messages.

    Raises:
        UserError: files that are missing, wrong, or do not belong together.
    """
    weights, config_file = locate(weights, config_file, key)
    cfg = without_distillation(read_config(config_file, list(overrides)))
    register_coco_format(cfg)
    model = build(cfg).eval()
    load_complete(model, weights, key, cfg.MODEL.TRUST_PICKLE)
    return Trained(cfg, model, class_labels(cfg))
