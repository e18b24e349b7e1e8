"""From a config to a detector: a student, one that was trained, or any Detectron2 model as a teacher."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY, build_model
from torch import nn

from densedist.common.config import load
from densedist.common.distill.checks import check_same_classes, check_trained
from densedist.common.engine.checkpoint import load_complete, refuse_pickle
from densedist.common.engine.locate import Weights
from densedist.common.errors import UserError
from densedist.common.task import Trainee
from densedist.det.config import GRAMMAR, without_distillation
from densedist.det.data.sets import check_datasets, class_labels, known_classes, register_coco_format
from densedist.det.distilling import count_classes, distilling_class, distilling_classes

logger = logging.getLogger(__name__)
M = TypeVar("M", bound=nn.Module)
UNKNOWN = re.compile(r"No object named '(.*)' found in '(.*)' registry!")
MAP = re.compile(r"(p|res)\d+|stem")  # names of a backbone's maps


def read_config(config_file: str, overrides: Sequence[str], own: bool = True) -> CfgNode:
    """The full config of a run, its keys checked; the data sets need not be there.

    Args:
        own: see common.config.load.

    Raises:
        UserError: whatever is wrong with it.
    """
    if not config_file:
        raise UserError("--config-file is missing: name a config, e.g. det/digits/faster_rcnn_r10_quarter.yaml")
    cfg = load(GRAMMAR, config_file, overrides, own=own)
    name, distilling = cfg.MODEL.META_ARCHITECTURE, distilling_classes()
    if cfg.DISTILL.TEACHER.CONFIG_FILE and name not in distilling:
        raise UserError(
            f"DISTILL.TEACHER is set, but MODEL.META_ARCHITECTURE {name} does not distill: "
            f"set it to {' or '.join(distilling)}"
        )
    if cfg.DISTILL.TEACHER.WEIGHTS and not cfg.DISTILL.TEACHER.CONFIG_FILE:
        raise UserError("DISTILL.TEACHER.WEIGHTS is set, but DISTILL.TEACHER.CONFIG_FILE is empty: name its config")
    if cfg.MODEL.LOAD_PROPOSALS:
        for path in [*cfg.DATASETS.PROPOSAL_FILES_TRAIN, *cfg.DATASETS.PROPOSAL_FILES_TEST]:
            refuse_pickle(path, "DATASETS.PROPOSAL_FILES", cfg.MODEL.TRUST_PICKLE)
    return cfg


def load_config(config_file: str, overrides: Sequence[str], own: bool = True) -> CfgNode:
    """The full config of a run, its keys and data sets checked, frozen.

    Raises:
        UserError: whatever is wrong with it.
    """
    cfg = read_config(config_file, overrides, own)
    cfg.DATASETS.CLASSES = check_datasets(cfg)
    cfg.freeze()
    return cfg


def build_trainee(cfg: CfgNode) -> Trainee:
    """The student of cfg, with its teacher if it has one.

    Raises:
        UserError: a name under MODEL that is registered nowhere, a map that the backbone has not, or frozen parts that
            no weights fill.
    """
    model: Any = build(cfg)
    if not cfg.MODEL.WEIGHTS:
        _check_frozen(model)
    kind = distilling_class(type(model).__name__)
    return Trainee(
        model,
        model,
        getattr(model, "distillation", None),
        kind.checkpoint_parts(model) if kind else {},
        unused_parameters=not cfg.DATASETS.TRAIN,  # without labels nothing trains the RPN and the box regression
    )


def build(cfg: CfgNode) -> nn.Module:
    """Detectron2's build_model.

    Raises:
        UserError: a name under MODEL that is registered nowhere, or a map that the backbone has not.
    """
    try:
        return build_model(cfg)
    except KeyError as error:
        if unknown := UNKNOWN.fullmatch(str(error.args[0])):
            name, registry = unknown.groups()
            raise UserError(
                f"MODEL: Detectron2 has no {registry} named {name}: correct that name, or name the file that "
                "registers it in IMPORTS"
            ) from error
        if MAP.fullmatch(str(error.args[0])):
            raise UserError(
                f"MODEL: the backbone {cfg.MODEL.BACKBONE.NAME} gives no map {error.args[0]}, which IN_FEATURES of "
                "MODEL.RPN, MODEL.ROI_HEADS or MODEL.RETINANET asks for: correct it, or take another backbone "
                "(RetinaNet's p6 and p7 on timm: build_timm_retinanet_fpn_backbone)"
            ) from error
        raise


def _check_frozen(model: nn.Module) -> None:
    """Make sure that what training leaves as it is has come from somewhere: from timm, or from the backbone's author.

    Frozen biases and norms that are all constant (0, 1) are as they were initialized; so are then the frozen
    convolutions, whose numbers do not show it.
    """
    for name, part in model.named_children():
        parameters = [p for p in part.parameters() if not p.requires_grad]
        # Those of a frozen batch norm are buffers.
        affine = [b for key, b in part.named_buffers() if key.endswith((".weight", ".bias"))]
        frozen = [*parameters, *affine]
        vectors = [v for v in frozen if v.dim() == 1 and len(v) > 1]
        if frozen and all(bool((v == v[0]).all()) for v in vectors):
            raise UserError(
                f"MODEL.WEIGHTS is empty, but parts of the {name} are frozen and would stay as they were initialized: "
                "name weights to start from, or train all of it (MODEL.BACKBONE.FREEZE_AT 0, and MODEL.RESNETS.NORM "
                "or MODEL.TIMM.NORM BN)"
            )


def load_model(cfg: CfgNode, weights: str, key: str) -> nn.Module:
    """The detector of cfg without a teacher, with trained weights, in eval mode.

    Raises:
        UserError: weights that are missing, unreadable, or do not fit.
    """
    model = build(without_distillation(cfg)).eval()
    load_complete(model, weights, key, cfg.MODEL.TRUST_PICKLE)
    return model


@dataclass(frozen=True)
class Trained:
    """A detector in eval mode, its config without a teacher, and the names of its classes."""

    cfg: CfgNode
    model: nn.Module
    classes: tuple[str, ...]


def load_trained(weights: Weights, overrides: Sequence[str] = ()) -> Trained:
    """A trained detector from its checkpoint and its config; no data set is needed.

    Raises:
        UserError: files that are wrong, or do not belong together.
    """
    cfg = without_distillation(read_config(weights.config, overrides, weights.own))
    register_coco_format(cfg)
    return Trained(cfg, load_model(cfg, weights.file, weights.key), class_labels(cfg))


def load_teacher_model(student_cfg: CfgNode, kind: type[M]) -> tuple[M, bool]:
    """The model that DISTILL.TEACHER of the student's config names, on the student's device.

    MODEL.META_ARCHITECTURE of its config may name a registered function of a config that gives a trained model, for one
    that another project builds; it needs no WEIGHTS.

    Returns:
        the model, and whether it wants the student's images with their channels the other way round.

    Raises:
        UserError: a missing config or weights, weights that do not fit or were never trained, classes other than
            the student's, or a model that is no `kind`.
    """
    node = student_cfg.DISTILL.TEACHER
    # Where it runs and whom to trust is not for the teacher's author to say.
    own = ["MODEL.DEVICE", student_cfg.MODEL.DEVICE, "TRUST_IMPORTS", str(student_cfg.TRUST_IMPORTS)]
    cfg = load(GRAMMAR, node.CONFIG_FILE, own, "DISTILL.TEACHER.CONFIG_FILE", own=False)
    register_coco_format(cfg)
    with torch.random.fork_rng():  # its initial weights are overwritten; the student's run stays as without it
        model = build(without_distillation(cfg))
    if not isinstance(model, kind):
        raise UserError(f"DISTILL.TEACHER.CONFIG_FILE: {type(model).__name__} is no {kind.__name__}")
    logger.info(_check_classes(student_cfg, cfg))
    source = f"DISTILL.TEACHER.WEIGHTS: {node.WEIGHTS}"
    if node.WEIGHTS or isinstance(META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE), type):
        load_complete(model, node.WEIGHTS, "DISTILL.TEACHER.WEIGHTS", student_cfg.MODEL.TRUST_PICKLE)
    else:  # a function gives a model as its author has it
        source = f"DISTILL.TEACHER.CONFIG_FILE: {cfg.MODEL.META_ARCHITECTURE}"
    check_trained(model, source)
    return model, student_cfg.INPUT.FORMAT != cfg.INPUT.FORMAT


def _check_classes(student: CfgNode, teacher: CfgNode) -> str:
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
