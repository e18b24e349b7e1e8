"""From a config to a detector: a student, or one that was trained."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import BACKBONE_REGISTRY, build_model
from torch import nn

from densedist.common.config import load
from densedist.common.data.confidence import Confidence
from densedist.common.data.sides import labeled_sets
from densedist.common.distill.average import is_average
from densedist.common.distill.registry import is_on
from densedist.common.distill.teacher_files import name_files
from densedist.common.distill.views import build_strong, in_words
from densedist.common.engine.checkpoint import load_complete, refuse_pickle
from densedist.common.engine.start import load_start
from densedist.common.errors import UserError
from densedist.common.pretrained import warn_of_other_pixels
from densedist.common.run_classes import refuse_exchanged_classes
from densedist.common.run_files import Weights, config_beside
from densedist.common.task import Trainee
from densedist.common.writers import is_foreign
from densedist.det import label_weights
from densedist.det.architectures import distilling_class, distilling_classes
from densedist.det.config import DETECTRON2, GRAMMAR, without_distillation
from densedist.det.data.augmentations import build_input
from densedist.det.data.classes import declared_classes, known_classes
from densedist.det.data.mosaic import check_mosaic
from densedist.det.data.registering import dataset_dicts
from densedist.det.datasets import check_count, check_datasets, class_labels
from densedist.det.distilling import Distilling
from densedist.det.foreign.load import load_foreign
from densedist.det.modeling.augmented import check_augmented
from densedist.det.modeling.backbone import TimmBackbone
from densedist.det.modeling.frozen import check_filled, check_freeze_at, check_frozen

UNKNOWN = re.compile(r"No object named '(.*)' found in '(.*)' registry!")
MAP = re.compile(r"(p|res)\d+|stem")  # names of a backbone's maps


def read_config(config_file: str, overrides: Sequence[str], trusted: bool = True) -> CfgNode:
    """Read the config of a run and check its keys; the data sets need not be there.

    Args:
        trusted: see common.config.load.

    Raises:
        UserError: whatever is wrong with it.
    """
    if not config_file and "MODEL.KIND" not in overrides[::2]:
        raise UserError("--config-file is missing: name a config, e.g. det/digits/faster_rcnn_r10_quarter.yaml")
    cfg = load(GRAMMAR, config_file, overrides, trusted=trusted)
    if cfg.MODEL.KIND == "transformers":  # its processor takes an image as it is
        cfg.INPUT.FORMAT, cfg.INPUT.MIN_SIZE_TEST = "RGB", 0
    if cfg.MODEL.KIND != DETECTRON2 and cfg.DATASETS.CLASSES:  # a head of Detectron2 would say how many
        cfg.MODEL.ROI_HEADS.NUM_CLASSES = len(cfg.DATASETS.CLASSES)
    name_files(cfg.DISTILL.TEACHER)
    build_input(cfg)
    build_strong(cfg)
    check_mosaic(cfg)
    name, distilling = cfg.MODEL.META_ARCHITECTURE, distilling_classes()
    teacher = cfg.DISTILL.TEACHER
    alone = is_average(teacher) or is_foreign(teacher)  # both need no config
    if (teacher.CONFIG_FILE or alone) and name not in distilling:
        raise UserError(
            f"DISTILL.TEACHER is set, but MODEL.META_ARCHITECTURE {name} does not distill: "
            f"set it to {' or '.join(distilling)}"
        )
    if teacher.WEIGHTS and not (teacher.CONFIG_FILE or alone):
        beside = config_beside(teacher.WEIGHTS)
        remedy = f"name {beside}, or in WEIGHTS the folder {beside.parent}" if beside else "name its config"
        raise UserError(f"DISTILL.TEACHER.WEIGHTS is set, but DISTILL.TEACHER.CONFIG_FILE is empty: {remedy}")
    if cfg.DATASETS.UNLABELED and cfg.MODEL.PROPOSAL_GENERATOR.NAME == "PrecomputedProposals":
        raise UserError(
            "DATASETS.UNLABELED needs proposals of the student, which MODEL.PROPOSAL_GENERATOR.NAME "
            "PrecomputedProposals does not make: set it to RPN, or leave DATASETS.UNLABELED empty"
        )
    check_augmented(cfg)
    if cfg.MODEL.LOAD_PROPOSALS:
        if cfg.DATASETS.PSEUDO_LABELED:
            raise UserError(
                "DATASETS.PSEUDO_LABELED: MODEL.LOAD_PROPOSALS reads proposals for DATASETS.TRAIN and TEST: set it to "
                "False, or leave DATASETS.PSEUDO_LABELED empty"
            )
        for path in [*cfg.DATASETS.PROPOSAL_FILES_TRAIN, *cfg.DATASETS.PROPOSAL_FILES_TEST]:
            refuse_pickle(path, "DATASETS.PROPOSAL_FILES", cfg.MODEL.TRUST_PICKLE)
    return cfg


def load_config(config_file: str, overrides: Sequence[str], trusted: bool = True) -> CfgNode:
    """Read the config of a run, check its keys, look its data sets up, and freeze it.

    Raises:
        UserError: whatever is wrong with it.
    """
    cfg = read_config(config_file, overrides, trusted)
    cfg.DATASETS.CLASSES = check_datasets(cfg)
    cfg.freeze()
    return cfg


def build_trainee(cfg: CfgNode) -> Trainee:
    """Build the student of a config, with its teacher if it has one.

    Raises:
        UserError: a name under MODEL that is registered nowhere, a map that the backbone has not, or frozen parts that
            no weights fill.
    """
    model: Any = build(cfg)
    if isinstance(model, Distilling):
        model.attach_teacher()
    if not cfg.MODEL.WEIGHTS:
        check_frozen(model)
        _check_pixels(cfg, model)
    check_freeze_at(cfg, model)
    _check_label_weights(cfg, model)
    kind = distilling_class(type(model).__name__)
    return Trainee(
        model,
        model,
        getattr(model, "distillation", None),
        kind.checkpoint_parts(model) if kind else {},
        unused_parameters=not labeled_sets(cfg),  # without labels nothing trains the RPN and the box regression
        start=_start(cfg, model),
        notes=_notes(cfg),
    )


def _check_label_weights(cfg: CfgNode, model: nn.Module) -> None:
    """Refuse a model that would ignore the weights of labels; crowds that a teacher wrote weigh nothing."""
    node = cfg.PSEUDO_LABELS
    weighed = node.WEIGHT != 1 or node.MAX_BOX_VARIANCE or Confidence.of(cfg).needs_scores
    if not weighed and not _has_crowds(cfg):
        return
    if not isinstance(model, Distilling):
        raise UserError(
            f"PSEUDO_LABELS: MODEL.META_ARCHITECTURE {cfg.MODEL.META_ARCHITECTURE} cannot weight labels: set it to "
            f"{' or '.join(distilling_classes())}"
        )
    label_weights.check(model)


def _has_crowds(cfg: CfgNode) -> bool:
    """Return whether a data set of DATASETS.PSEUDO_LABELED has crowds."""
    dicts = (d for name in cfg.DATASETS.PSEUDO_LABELED for d in dataset_dicts(name))
    return any(a.get("iscrowd") for d in dicts for a in d.get("annotations", []))


def build(cfg: CfgNode) -> nn.Module:
    """Build a model with Detectron2's build_model.

    Raises:
        UserError: a name under MODEL that is registered nowhere, or a map that the backbone has not; or another
            MODEL.KIND.
    """
    refuse_foreign(cfg)
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
                f"MODEL: the backbone {cfg.MODEL.BACKBONE.NAME} has no map {error.args[0]}, which IN_FEATURES of "
                "MODEL.RPN, MODEL.ROI_HEADS or MODEL.RETINANET asks for: correct it, or take another backbone "
                "(RetinaNet's p6 and p7 on timm: build_timm_retinanet_fpn_backbone)"
            ) from error
        raise


def refuse_foreign(cfg: CfgNode) -> None:
    """Refuse a model that Detectron2 does not build.

    Raises:
        UserError: naming MODEL.KIND.
    """
    kind = cfg.MODEL.get("KIND", DETECTRON2)  # which stock_config does not have
    if kind != DETECTRON2:
        raise UserError(
            f"MODEL.KIND is {kind}: such a model labels, predicts and is evaluated, but is not trained, "
            f"distilled or exported: set it to {DETECTRON2}"
        )


def load_model(cfg: CfgNode, weights: str, key: str) -> nn.Module:
    """Build the detector of a config without a teacher, with trained weights, in eval mode.

    Raises:
        UserError: weights that are missing, unreadable, or do not fit.
    """
    if cfg.MODEL.KIND != DETECTRON2:
        return load_foreign(cfg, weights, key, known_classes(cfg) or ())
    model = build(without_distillation(cfg)).eval()
    load_complete(model, weights, key, cfg.MODEL.TRUST_PICKLE)
    return model


def load_weights(student: nn.Module, weights: str, key: str, trust_pickle: bool) -> str:
    """Start a student from weights, which have to fill what is frozen.

    Args:
        weights: a checkpoint; empty = the student stays as it is.
        key: what names the weights, for messages.
        trust_pickle: MODEL.TRUST_PICKLE.

    Returns:
        what of the student does not come from them, in words; "" for nothing.

    Raises:
        UserError: weights that are missing, unreadable, untrusted or of another model, or that fill frozen parts in
            part.
    """
    backbone = getattr(student, "backbone", None)
    below_the_pyramid = "backbone.bottom_up" if hasattr(backbone, "bottom_up") else "backbone"
    trunk = "" if backbone is None else below_the_pyramid
    start = load_start(student, weights, key, trust_pickle, trunk)
    check_filled(student, set(start.unfilled), f"{key}: {weights}")
    return start.note


@dataclass(frozen=True)
class Trained:
    """A detector in eval mode, its config without a teacher, and the names of its classes."""

    cfg: CfgNode
    model: nn.Module
    classes: tuple[str, ...]


def load_trained(weights: Weights, asked: Sequence[str] = ()) -> Trained:
    """Load a trained detector from its checkpoint and its config; no data set is needed.

    Args:
        asked: the classes that it is to find, which a zero-shot detector does not know by itself.

    Raises:
        UserError: files that are wrong, or do not belong together.
    """
    cfg = without_distillation(read_config(weights.config, weights.overrides, weights.trusted))
    names = declared_classes(cfg) or known_classes(cfg)  # that a script has registered, at last
    if cfg.MODEL.KIND != DETECTRON2:
        model = load_foreign(cfg, weights.file, weights.key, names or (), asked)
        return Trained(cfg, model, model.names)
    check_count(cfg)
    refuse_exchanged_classes(names or (), weights.file, weights.key)
    classes = tuple(names or class_labels(cfg))
    return Trained(cfg, load_model(cfg, weights.file, weights.key), classes)


def plain_model(model: nn.Module, cfg: CfgNode) -> nn.Module:
    """Build the model of stock_config with the weights of a student, in eval mode."""
    refuse_foreign(cfg)
    stock = build(stock_config(cfg)).eval()
    stock.load_state_dict(model.state_dict())
    return stock


def stock_config(cfg: CfgNode) -> CfgNode:
    """Return the config of the plain model: Detectron2's keys, and MODEL.TIMM where another backbone reads it."""
    stock = get_cfg()
    _take_over(stock, cfg)
    kind = distilling_class(cfg.MODEL.META_ARCHITECTURE)
    stock.MODEL.META_ARCHITECTURE = kind.stock.__name__ if kind else cfg.MODEL.META_ARCHITECTURE
    stock.MODEL.WEIGHTS = ""
    if not has_stock_backbone(cfg):
        stock.MODEL.TIMM = without_distillation(cfg).MODEL.TIMM
    return stock


def has_stock_backbone(cfg: CfgNode) -> bool:
    """Return whether the backbone is Detectron2's; that of densedist or of the user may read MODEL.TIMM."""
    return BACKBONE_REGISTRY.get(cfg.MODEL.BACKBONE.NAME).__module__.startswith("detectron2.")


def _notes(cfg: CfgNode) -> dict[str, str]:
    """Return the notes of the plan that not every run has, by a word each."""
    notes = {}
    if augment := build_input(cfg):
        notes["augment"] = str(augment)
    if strong := in_words(cfg, "MOSAIC"):
        notes["strong"] = strong
    if most := cfg.PSEUDO_LABELS.MAX_BOX_VARIANCE:
        notes["boxes"] = f"pseudo-labeled ones of a variance above {most:g} teach their class alone"
    if is_on(cfg.DISTILL) and labeled_sets(cfg) and cfg.DATASETS.UNLABELED:
        weight = cfg.DISTILL.UNLABELED_WEIGHT
        notes["images"] = (
            f"unlabeled ones give only distillation losses, logged as _unlabeled and multiplied by {weight}"
        )
    return notes


def _start(cfg: CfgNode, model: nn.Module) -> str:
    timm = cfg.MODEL.TIMM
    pretrained = timm.PRETRAINED and any(isinstance(part, TimmBackbone) for part in model.modules())
    inherited = cfg.DISTILL.INHERIT if is_on(cfg.DISTILL) else []
    parts = [
        f"{timm.NAME} with timm's pretrained weights" if pretrained else "",
        *(f"the teacher's {x}" for x in inherited),
    ]
    return ", ".join(filter(None, parts))


def _check_pixels(cfg: CfgNode, model: nn.Module) -> None:
    """Warn where timm's weights were trained on images that are normalized otherwise."""
    for part in model.modules():
        if isinstance(part, TimmBackbone) and cfg.MODEL.TIMM.PRETRAINED:
            name = f"{cfg.MODEL.TIMM.NAME} with timm's pretrained weights"
            warn_of_other_pixels(cfg, getattr(part.model, "pretrained_cfg", None) or {}, name)


def _take_over(stock: CfgNode, cfg: CfgNode) -> None:
    """Set every key that stock has to the value of cfg."""
    for key, value in stock.items():
        if isinstance(value, CfgNode):
            _take_over(value, cfg[key])
        else:
            stock[key] = cfg[key]
