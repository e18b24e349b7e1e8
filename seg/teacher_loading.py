"""From a student's config to its teacher, whatever built that: SMP, another library, a program or a function."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from detectron2.config import CfgNode
from torch import nn

from densedist.common.config import check_values, load, trust
from densedist.common.distill.average import is_average
from densedist.common.distill.checks import check_same_classes, check_trained
from densedist.common.distill.classes import ClassMap, read_class_map
from densedist.common.distill.ensemble import configs_of_each, shared_class_map
from densedist.common.distill.speed import compile_parts
from densedist.common.distill.teacher import TeacherModel, precision, teacher_stream
from densedist.common.distill.teacher_files import on_hub, words_of_teacher
from densedist.common.errors import UserError
from densedist.common.foreign.kinds import recognize
from densedist.common.nearest import did_you_mean_path
from densedist.common.randomness import kept_random_state
from densedist.common.run_classes import names_of, refuse_exchanged_classes
from densedist.seg.config import GRAMMAR, get_cfg
from densedist.seg.foreign.load import check_format, load_foreign
from densedist.seg.networks.architectures import count_classes, fetch_smp_folder, read_smp_folder
from densedist.seg.networks.dense import SMP, DenseModel
from densedist.seg.networks.network import Network, load_network
from densedist.seg.teacher.adapting import InClasses, Mean, Scaled
from densedist.seg.teacher.average import average_of
from densedist.seg.teacher.kept import KeptLogits
from densedist.seg.teacher.teacher import SegTeacher

logger = logging.getLogger(__name__)
KEY = "DISTILL.TEACHER.WEIGHTS"


def load_teacher(student_cfg: CfgNode, student: Network | None = None) -> SegTeacher:
    """Return the teacher that DISTILL.TEACHER of the student's config names, on the student's device.

    Args:
        student: whose average may teach; None = it does not.

    Raises:
        UserError: a missing config or weights, weights that do not fit or were never trained, classes that are not
            the student's, or an unknown precision.
    """
    # Initial weights are overwritten; the student's run stays as without a teacher.
    with kept_random_state(student_cfg.MODEL.DEVICE):
        found = [
            average_of(student, cfg) if student and is_average(cfg.DISTILL.TEACHER) else load_teacher_model(cfg)
            for cfg in configs_of_each(student_cfg, GRAMMAR)
        ]
    classes = shared_class_map([one.classes for one in found])
    network, flip = found[0].model, found[0].flipped
    if len(found) > 1:
        network, flip = Mean([one.model for one in found], [one.flipped for one in found]), False
    kept_mass = student_cfg.DISTILL.TEACHER.KEPT_MASS if any(one.classes for one in found) else 0.0
    kind = KeptLogits if student_cfg.DISTILL.TEACHER.CACHE else SegTeacher
    average = next((one.average for one in found if one.average is not None), None)
    teacher = kind(network, flip, _precision(student_cfg, network), classes, kept_mass, average)
    compile_parts(student_cfg, teacher.model.parts)
    teacher.stream = teacher_stream(student_cfg)
    return teacher


def _precision(student_cfg: CfgNode, network: DenseModel) -> torch.dtype:
    if not network.own_precision:
        return precision(student_cfg)
    if (name := student_cfg.DISTILL.TEACHER.PRECISION) not in ("auto", "float32"):
        raise UserError(f"DISTILL.TEACHER.PRECISION is {name}, but a program keeps its own precision: want auto")
    return torch.float32


def load_teacher_model(student_cfg: CfgNode) -> TeacherModel[DenseModel]:
    """Return the network that DISTILL.TEACHER of the student's config names, in the student's classes and at its scale.

    Raises:
        UserError: a missing config or weights, weights that do not fit or were never trained, or classes that are not
            the student's.
    """
    node = student_cfg.DISTILL.TEACHER
    if not node.WEIGHTS:
        raise UserError(f"{KEY} is empty: give the trained model's weights")
    cfg = _config(student_cfg)
    refuse_exchanged_classes(names_of(cfg.DATASETS), node.WEIGHTS, KEY)
    if cfg.MODEL.KIND != SMP:
        found = _load_foreign(student_cfg, cfg)
    else:
        found = (_load_checkpoint if node.CONFIG_FILE else _load_smp_folder)(node, cfg)
    if found.names and len(found.names) != found.count:
        raise UserError(f"{KEY}: {node.WEIGHTS} predicts {found.count} classes, but {len(found.names)} are named")
    classes = _classes(student_cfg, found.names, found.count)
    if found.trained is not None:
        check_trained(found.trained, f"{KEY}: {node.WEIGHTS}")
    network = found.network if node.INPUT_SCALE == 1 else Scaled(found.network, node.INPUT_SCALE)
    network = network if classes is None else InClasses(network, classes)
    return TeacherModel(network, found.channels != student_cfg.INPUT.FORMAT, classes)


@dataclass(frozen=True)
class _Found:
    """A network as its author made it.

    Args:
        channels: "RGB" or "BGR", which images it wants.
        names: of its classes; empty = unknown.
        count: how many classes its logits have.
        trained: the part that shows whether it was trained; None = no part does.
    """

    network: DenseModel
    channels: str
    names: Sequence[str]
    count: int
    trained: nn.Module | None


def _load_foreign(student_cfg: CfgNode, cfg: CfgNode) -> _Found:
    """Load a network that SMP does not build; it may know its pixels, channels and classes itself."""
    node = student_cfg.DISTILL.TEACHER
    network = load_foreign(cfg, node.WEIGHTS, KEY, student_cfg.INPUT.CROP_SIZE)
    if network.says_pixels and (given := [name for name in ("PIXEL_MEAN", "PIXEL_STD", "STRIDE") if node[name]]):
        raise UserError(f"DISTILL.TEACHER.{given[0]}: {node.WEIGHTS} contains it: leave the key empty")
    if node.FORMAT or node.CONFIG_FILE:
        check_format(cfg, network, f"{KEY}: {node.WEIGHTS}")
    channels, names = network.channels or cfg.INPUT.FORMAT, names_of(cfg.DATASETS) or network.names
    return _Found(network, channels, names, network.class_count, getattr(network, "model", None))


def _load_checkpoint(node: CfgNode, cfg: CfgNode) -> _Found:
    """Load a network of SMP that the teacher's config describes."""
    network, names = load_network(cfg, node.WEIGHTS, KEY), names_of(cfg.DATASETS)
    return _Found(network, cfg.INPUT.FORMAT, names, len(names), network.smp)


def _load_smp_folder(node: CfgNode, cfg: CfgNode) -> _Found:
    """Load a folder of SMP's save_pretrained. Its images are those of the default config: RGB, normalized as SMP does
    for ImageNet."""
    folder = fetch_smp_folder(node.WEIGHTS, KEY) if on_hub(node) else node.WEIGHTS
    if not Path(folder).exists():
        raise UserError(f"{KEY}: there is no file or folder {folder}{did_you_mean_path(folder)}")
    if not Path(folder).is_dir():
        raise UserError(
            f"DISTILL.TEACHER.CONFIG_FILE is empty: name the teacher's config, or in {KEY} a folder written by "
            "save_pretrained of SMP or transformers, a program (.pt2, .onnx, .xml, .torchscript), or module:function"
        )
    smp, model = read_smp_folder(folder, KEY), cfg.MODEL
    network = Network(smp, model.PIXEL_MEAN, model.PIXEL_STD).to(model.DEVICE)
    return _Found(network, cfg.INPUT.FORMAT, names_of(cfg.DATASETS), count_classes(smp), smp)


def _config(student_cfg: CfgNode) -> CfgNode:
    """Return the config that says how the teacher is built and how it wants its images."""
    node = student_cfg.DISTILL.TEACHER
    if node.CONFIG_FILE:
        # Where it runs and whom to trust is not for the teacher's author to say.
        words = ["MODEL.DEVICE", student_cfg.MODEL.DEVICE, *trust.words(student_cfg)]
        cfg = load(GRAMMAR, node.CONFIG_FILE, words, "DISTILL.TEACHER.CONFIG_FILE", trusted=False)
    else:
        cfg = get_cfg()
        cfg.MODEL.DEVICE, cfg.MODEL.TRUST_PICKLE = student_cfg.MODEL.DEVICE, student_cfg.MODEL.TRUST_PICKLE
        cfg.IMPORTS = list(student_cfg.IMPORTS)
    if node.KIND == "auto" and cfg.MODEL.KIND == SMP:
        cfg.MODEL.KIND = recognize(node.WEIGHTS) or SMP
    cfg.merge_from_list(words_of_teacher(node, GRAMMAR.keys()))
    check_values(cfg, GRAMMAR.keys())
    return cfg


def _classes(student_cfg: CfgNode, names: Sequence[str], count: int) -> ClassMap | None:
    """Return how the teacher's classes become the student's; None where they are the same.

    Args:
        names: of the teacher's classes; empty = unknown.
        count: how many it has.
    """
    node, ours = student_cfg.DISTILL.TEACHER, [str(c["name"]) for c in student_cfg.DATASETS.CLASSES]
    if node.CLASSES or node.MISSING_CLASSES == "leave_out":
        known = list(names) or [str(number) for number in range(count)]
        found = read_class_map(node.CLASSES, ours, known, node.MISSING_CLASSES == "leave_out")
        if len(found.kept) == 1:
            raise UserError("DISTILL.TEACHER.CLASSES: the teacher knows one of the student's classes: want two or more")
        return found
    if names:
        check_same_classes(ours, names)
        logger.info(f"student and teacher have the same {count} classes in the same order")
        return None
    if len(ours) != count:
        raise UserError(
            f"{KEY}: the student has {len(ours)} classes, the teacher {count}: map them in DISTILL.TEACHER.CLASSES"
        )
    logger.info(f"{count} classes on both sides; their order is not checked, as {node.WEIGHTS} does not name them")
    return None
