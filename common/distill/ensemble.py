"""An ensemble of teachers: DISTILL.TEACHER, and those of its MORE; the mean of class probabilities."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import Tensor
from torch.nn import functional as F

from densedist.common.config.keys import check_values, value_of
from densedist.common.config.load import Grammar, merge
from densedist.common.distill.average import AVERAGE, TEACHER, check_average, is_average
from densedist.common.distill.classes import ClassMap
from densedist.common.distill.teacher_files import name_files
from densedist.common.errors import UserError
from densedist.common.losses.checks import Activation, widen


def configs_of_each(student_cfg: CfgNode, grammar: Grammar) -> list[CfgNode]:
    """Return for each teacher the student's config as it would be with that teacher alone, the first one first.

    Raises:
        UserError: an entry of MORE with a key that is not one of a teacher's, or a wrong value; or the student's
            average named twice, or with keys that it has no use for.
    """
    node = value_of(student_cfg, TEACHER)
    first = _with(student_cfg, grammar, node, {})
    each = [first, *(_with(student_cfg, grammar, _fresh(node, grammar), more) for more in node.MORE)]
    averages = [cfg for cfg in each if is_average(cfg.DISTILL.TEACHER)]
    for cfg in averages:
        check_average(cfg, grammar.keys())
    if len(averages) > 1:
        raise UserError(f"{TEACHER}.MORE: {AVERAGE} is named {len(averages)} times: name it once")
    return each


def _fresh(node: CfgNode, grammar: Grammar) -> CfgNode:
    """Return a teacher's keys with their defaults, except for those that all teachers share."""
    fresh = value_of(grammar.config(), TEACHER)
    for name in _shared(grammar):
        fresh[name] = node[name]
    return fresh


def _shared(grammar: Grammar) -> list[str]:
    return [name.removeprefix(f"{TEACHER}.") for name, key in grammar.keys().items() if key.of_all]


def _with(student_cfg: CfgNode, grammar: Grammar, node: CfgNode, more: Mapping[str, Any]) -> CfgNode:
    cfg = student_cfg.clone()
    cfg.defrost()
    cfg.DISTILL.TEACHER = node.clone()
    cfg.DISTILL.TEACHER.defrost()
    cfg.DISTILL.TEACHER.MORE = []
    shared = _shared(grammar)
    if wrong := [name for name in more if name in shared]:
        raise UserError(f"{TEACHER}.MORE: {wrong[0]} is for all teachers together: set it in {TEACHER} itself")
    merge(cfg, {"DISTILL": {"TEACHER": dict(more)}}, f"{TEACHER}.MORE")
    name_files(cfg.DISTILL.TEACHER)
    check_values(cfg, grammar.keys())
    return cfg


def shared_class_map(maps: Sequence[ClassMap | None]) -> ClassMap | None:
    """Return the class map of an ensemble: which of the student's classes all its teachers know.

    Raises:
        UserError: they know different ones.
    """
    kept = [None if m is None or len(m.kept) == m.columns else m.kept for m in maps]
    if any(k != kept[0] for k in kept):
        raise UserError(f"{TEACHER}.MORE: the teachers know different classes of the student's: want the same ones")
    return maps[0]


def mean_logits(logits: Sequence[Tensor], activation: Activation) -> Tensor:
    """Return logits (R, K, *) whose probabilities are the mean of those of all given, in the type of the first.

    Args:
        logits: (R, K, *) each, of an ensemble or of a cascade's stages.
        activation: "softmax" over the classes, or "sigmoid" for each.
    """
    if len(logits) == 1:
        return logits[0]
    each = torch.stack([widen(x) for x in logits])
    if activation == "softmax":
        mean = each.log_softmax(2).logsumexp(0) - math.log(len(each))
    else:
        mean = F.logsigmoid(each).logsumexp(0) - F.logsigmoid(-each).logsumexp(0)
    return mean.to(logits[0].dtype)
