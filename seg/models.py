"""From a config to a segmentation model: a student with what distillation adds, or one that was trained."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from segmentation_models_pytorch.base import SegmentationModel

from densedist.common.config import load
from densedist.common.data.flip_pairs import mirrored_classes
from densedist.common.data.sides import labeled_sets
from densedist.common.distill.build import build_distiller
from densedist.common.distill.checks import check_order
from densedist.common.distill.distiller import Distillation
from densedist.common.distill.registry import is_on
from densedist.common.distill.teacher_files import name_files
from densedist.common.distill.views import build_strong, in_words
from densedist.common.engine.batch_norm import synchronize_batch_norm
from densedist.common.engine.start import load_start
from densedist.common.errors import UserError
from densedist.common.pretrained import warn_of_other_pixels
from densedist.common.run_classes import names_of, refuse_exchanged_classes
from densedist.common.run_files import Weights
from densedist.common.task import Trainee
from densedist.seg.class_weights import class_weights
from densedist.seg.config import GRAMMAR, get_cfg, without_distillation
from densedist.seg.data.augmentations import build_augmentations, check_augmentations
from densedist.seg.foreign.load import check_format, load_foreign
from densedist.seg.labels import Classes
from densedist.seg.losses import LOSSES, TaskLosses, switched_on
from densedist.seg.networks.architectures import count_classes, pixels_of, read_smp_folder
from densedist.seg.networks.dense import SMP, DenseModel
from densedist.seg.networks.dist_networks import stock
from densedist.seg.networks.network import Network, build_network, load_network
from densedist.seg.networks.taps import places_in_words, tap_specs
from densedist.seg.networks.windows import Inference
from densedist.seg.segmenter import Segmenter
from densedist.seg.teacher.teacher import SegTeacher
from densedist.seg.teacher_loading import load_teacher

logger = logging.getLogger(__name__)


def read_config(config_file: str, overrides: Sequence[str], trusted: bool = True) -> CfgNode:
    """Read the config of a run and check its keys, values and classes; the data need not be there.

    Args:
        trusted: see common.config.load.

    Raises:
        UserError: whatever is wrong with it.
    """
    if not config_file and "MODEL.KIND" not in overrides[::2]:
        raise UserError("--config-file is missing: name a config, e.g. seg/digits/pspnet_r10_quarter.yaml")
    cfg = load(GRAMMAR, config_file, overrides, trusted=trusted)
    name_files(cfg.DISTILL.TEACHER)
    classes = Classes.of(cfg)
    mirrored_classes(cfg.INPUT.FLIP_PAIRS, classes.names)
    if len(classes) == 1:
        raise UserError("DATASETS.CLASSES has one class: name the background too, as a class of its own")
    if cfg.MODEL.CLASS_WEIGHTS and len(cfg.MODEL.CLASS_WEIGHTS) != len(classes):
        raise UserError(
            f"MODEL.CLASS_WEIGHTS has {len(cfg.MODEL.CLASS_WEIGHTS)} numbers: want {len(classes)}, one for each class"
        )
    _check_losses(cfg)
    check_augmentations(cfg)
    build_strong(cfg)
    return cfg


def load_config(config_file: str, overrides: Sequence[str], trusted: bool = True) -> CfgNode:
    """Read the config of a run (see read_config) and freeze it."""
    cfg = read_config(config_file, overrides, trusted)
    cfg.freeze()
    return cfg


def build_trainee(cfg: CfgNode) -> Trainee:
    """Build the student of a config, with its teacher if it has one.

    Raises:
        UserError: whatever is wrong with the config, the teacher or its weights.
    """
    model = build_segmenter(cfg)
    network, distillation = smp_network(model), model.distillation
    beside: dict[str, Any] = {} if network.aux_head is None else {"aux_head": network.aux_head}
    if distillation is not None:
        beside |= distillation.distiller.beside
    # SMP keeps an encoder's stages beyond MODEL.ENCODER.DEPTH.
    encoder = cfg.MODEL.ENCODER
    start = f"{encoder.NAME} with the weights {encoder.WEIGHTS}" if encoder.WEIGHTS else ""
    if encoder.WEIGHTS and not cfg.MODEL.WEIGHTS:
        warn_of_other_pixels(cfg, pixels_of(encoder.NAME, encoder.WEIGHTS), start)
    return Trainee(model, network.smp, distillation, beside, True, start, _notes(cfg, model))


def build_segmenter(cfg: CfgNode) -> Segmenter:
    """Build the student of MODEL.* with what DISTILL.* adds to its training.

    Raises:
        UserError: whatever is wrong with the config, the teacher or its weights.
    """
    network = build_network(cfg)
    return wrap(network, cfg, _distillation(cfg, network), TaskLosses.of(cfg, class_weights(cfg)))


def wrap(
    network: DenseModel,
    cfg: CfgNode,
    distillation: Distillation[SegTeacher] | None = None,
    task: TaskLosses | None = None,
) -> Segmenter:
    """Wrap a network with the inference of cfg, and with losses; on MODEL.DEVICE."""
    if cfg.MODEL.SYNC_BN:
        synchronize_batch_norm(network)
    segmenter = Segmenter(
        network,
        Inference.of(cfg),
        task=task,
        aux_weight=cfg.MODEL.AUX_HEAD.LOSS_WEIGHT,
        distillation=distillation,
        ignored_pixels=cfg.DISTILL.IGNORED_PIXELS,
        pseudo_weight=cfg.PSEUDO_LABELS.WEIGHT,
        logits_stride=cfg.DISTILL.LOGITS_STRIDE,
    )
    return segmenter.to(cfg.MODEL.DEVICE)


def load_model(cfg: CfgNode, weights: str, key: str) -> Segmenter:
    """Build the student of a config without distillation, with trained weights, in eval mode.

    Args:
        weights: a checkpoint, or a folder of SMP's save_pretrained; or what MODEL.KIND says.
        key: what names the weights, for messages.

    Raises:
        UserError: weights that are missing, unreadable, or do not fit.
    """
    if not weights:
        raise UserError(f"{key} is empty: give the trained model's weights")
    plain = without_distillation(cfg)
    network: DenseModel
    if plain.MODEL.KIND == SMP:
        network = load_network(plain, weights, key)
    else:
        network = load_foreign(plain, weights, key, plain.INPUT.CROP_SIZE)
        check_format(plain, network, f"{key}: {weights}")
        if network.class_count != (count := len(Classes.of(cfg))):
            raise UserError(
                f"{key}: {weights} predicts {network.class_count} classes, but DATASETS.CLASSES has {count}"
            )
        if network.names:
            check_order(Classes.of(cfg).names, network.names, f"{key}: {weights}")
    return wrap(network, plain).eval()


def load_weights(student: SegmentationModel, weights: str, key: str, trust_pickle: bool) -> str:
    """Start a student from weights: what a checkpoint has of it, or all of a folder of SMP's save_pretrained.

    Args:
        weights: a checkpoint, or such a folder; empty = the student stays as it is.
        key: what names the weights, for messages.
        trust_pickle: MODEL.TRUST_PICKLE.

    Returns:
        what of the student does not come from them, in words; "" for nothing.

    Raises:
        UserError: weights that are missing, unreadable, untrusted, or of another model; a folder of other classes.
    """
    if not (weights and Path(weights).is_dir()):
        return load_start(student, weights, key, trust_pickle, "encoder").note
    model = read_smp_folder(weights, key)
    kind, wanted_kind = (type(side).__name__ for side in (model, student))
    if kind != wanted_kind:
        raise UserError(f"{key}: {weights} holds {kind}, MODEL.ARCHITECTURE is {wanted_kind}")
    if (theirs := count_classes(model)) != (ours := count_classes(student)):
        raise UserError(f"{key}: {weights} has {theirs} classes, DATASETS.CLASSES {ours}")
    given, wanted = ({name: x.shape for name, x in side.state_dict().items()} for side in (model, student))
    if wrong := [name for name in {**wanted, **given} if given.get(name) != wanted.get(name)]:
        raise UserError(
            f"{key}: {weights} holds another {kind}: {len(wrong)} tensors are missing or of another "
            f"shape, first {wrong[0]}; take MODEL.ENCODER and MODEL.ARGS from its config.json"
        )
    student.load_state_dict(model.state_dict())
    logger.info(f"{key}: loaded all weights of {weights}")
    return ""


@dataclass(frozen=True)
class Trained:
    """A model in eval mode (an SMP model is its .network.smp), its config without a teacher, and its classes."""

    cfg: CfgNode
    model: Segmenter
    classes: Classes


def load_trained(weights: Weights) -> Trained:
    """Load a trained model from its weights and its config; no data set is needed.

    Raises:
        UserError: files that are wrong, or do not belong together.
    """
    cfg = without_distillation(load_config(weights.config, weights.overrides, weights.trusted))
    refuse_exchanged_classes(names_of(cfg.DATASETS), weights.file, weights.key)
    return Trained(cfg, load_model(cfg, weights.file, weights.key), Classes.of(cfg))


def plain_model(model: Segmenter, cfg: CfgNode) -> SegmentationModel:
    """Return the SMP model itself, as SMP would build it: without normalization, padding and losses."""
    return stock(smp_network(model).smp)


def smp_network(model: Segmenter) -> Network:
    """Return the network of a model that SMP builds.

    Raises:
        UserError: another library or program is what it runs.
    """
    if not isinstance(model.network, Network):
        raise UserError(
            "MODEL.KIND is not smp: such a model teaches, labels and is evaluated, but is not trained or exported"
        )
    return model.network


def _check_losses(cfg: CfgNode) -> None:
    """Refuse MODEL.LOSS without a loss, or without one that takes the weights of classes where there are any."""
    used, node = switched_on(cfg), cfg.MODEL
    if not used:
        raise UserError(f"MODEL.LOSS: every WEIGHT is 0: give one of {', '.join(LOSSES)} a weight above 0")
    if node.CLASS_BALANCE == "none" and not node.CLASS_WEIGHTS:
        return
    key = "MODEL.CLASS_WEIGHTS" if node.CLASS_WEIGHTS else "MODEL.CLASS_BALANCE"
    if not any(LOSSES[name].weighs_classes for name in used):
        takers = ", ".join(name for name, loss in LOSSES.items() if loss.weighs_classes)
        empty = "[]" if node.CLASS_WEIGHTS else "none"
        raise UserError(f"{key}: only {takers} use it, and none of them is on in MODEL.LOSS: set it to {empty}")
    if node.CLASS_WEIGHTS and not any(node.CLASS_WEIGHTS):
        raise UserError("MODEL.CLASS_WEIGHTS are all 0: nothing would be learned from labels")
    if node.CLASS_BALANCE != "none" and node.CLASS_WEIGHTS:
        raise UserError(
            "MODEL.CLASS_WEIGHTS and MODEL.CLASS_BALANCE are both given: set the former to [], or the latter to none"
        )
    if node.CLASS_BALANCE != "none" and not labeled_sets(cfg):
        raise UserError("MODEL.CLASS_BALANCE counts the labels of DATASETS.TRAIN, which is empty: set it to none")


def _distillation(cfg: CfgNode, network: Network) -> Distillation[SegTeacher] | None:
    if not is_on(cfg.DISTILL):
        return None
    teacher = load_teacher(cfg, network)
    count, weight = len(Classes.of(cfg)), cfg.MODEL.AUX_HEAD.LOSS_WEIGHT
    places = places_in_words(network, cfg.INPUT.CROP_SIZE, cfg.DISTILL.LOGITS_STRIDE)
    student_taps, teacher_taps = tap_specs(network, count, weight, places), tap_specs(teacher.model, count, weight)
    cached = bool(cfg.DISTILL.TEACHER.CACHE)
    distiller = build_distiller(cfg, student_taps, teacher_taps, cached, teacher.classes)
    return Distillation(teacher, distiller, cfg.DISTILL.UNLABELED_WEIGHT)


def _notes(cfg: CfgNode, model: Segmenter) -> dict[str, str]:
    """Return the notes of the plan that not every run has, by a word each."""
    notes = {}
    if str(model.task) != str(TaskLosses.of(get_cfg())):
        notes["task"] = f"= {model.task}"
    if augment := build_augmentations(cfg):
        notes["augment"] = str(augment)
        if model.distillation is not None and cfg.DISTILL.TEACHER.CACHE:
            notes["augment"] += "; the cached teacher saw images without, and teaches where their pixels are now"
    if strong := in_words(cfg, "CUTMIX"):
        notes["strong"] = strong
    if model.distillation is not None and labeled_sets(cfg) and cfg.DATASETS.UNLABELED:
        weight = cfg.DISTILL.UNLABELED_WEIGHT
        notes["images"] = f"unlabeled ones give only distillation losses, whose gradient is multiplied by {weight}"
    if cfg.MODEL.CLASS_BALANCE != "none":
        ranked = sorted(zip(model.task.class_weights, Classes.of(cfg).names, strict=True))
        least, most = (f"{weight:.3g} ({name})" for weight, name in (ranked[0], ranked[-1]))
        notes["classes"] = f"weighed by {cfg.MODEL.CLASS_BALANCE}, from {least} to {most}"
    return notes
