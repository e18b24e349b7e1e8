"""From a student's config to its teacher, whatever built that: SMP, another library, a program or a function."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from detectron2.config import CfgNode
from huggingface_hub import snapshot_download

from densedist.common.config import check_values, load, trust
from densedist.common.distill.checks import check_same_classes, check_trained
from densedist.common.distill.classes import ClassMap, read_class_map
from densedist.common.distill.ensemble import configs_of_each, shared_class_map
from densedist.common.distill.speed import compile_parts
from densedist.common.distill.teacher import precision, teacher_stream
from densedist.common.distill.teacher_files import on_hub
from densedist.common.errors import UserError, one_line
from densedist.common.randomness import kept_random_state
from densedist.common.run_classes import names_of, refuse_exchanged_classes
from densedist.seg.config import GRAMMAR, get_cfg
from densedist.seg.foreign.kinds import recognize
from densedist.seg.foreign.load import check_format, load_foreign
from densedist.seg.networks.architectures import count_classes, read_smp_folder
from densedist.seg.networks.dense import SMP, DenseModel
from densedist.seg.networks.network import Network, load_network
from densedist.seg.teacher.adapting import InClasses, Mean, Scaled
from densedist.seg.teacher.kept import KeptLogits
from densedist.seg.teacher.teacher import SegTeacher

logger = logging.getLogger(__name__)
KEY = "DISTILL.TEACHER.WEIGHTS"
# Keys beside the teacher's weights, and those of a config that they stand for.
BESIDE = {
    "FORMAT": "INPUT.FORMAT",
    "PIXEL_MEAN": "MODEL.PIXEL_MEAN",
    "PIXEL_STD": "MODEL.PIXEL_STD",
    "STRIDE": "MODEL.STRIDE",
}


def load_teacher(student_cfg: CfgNode) -> SegTeacher:
    """Return the teacher that DISTILL.TEACHER of the student's config names, on the student's device.

    Raises:
        UserError: a missing config or weights, weights that do not fit or were never trained, classes that are not
            the student's, or an unknown precision.
    """
    # Initial weights are overwritten; the student's run stays as without a teacher.
    with kept_random_state(student_cfg.MODEL.DEVICE):
        found = [_one(cfg) for cfg in configs_of_each(student_cfg, GRAMMAR)]
    classes = shared_class_map([one.classes for one in found])
    network, flip = found[0].network, found[0].flipped
    if len(found) > 1:
        network, flip = Mean([one.network for one in found], [one.flipped for one in found]), False
    kept_mass = student_cfg.DISTILL.TEACHER.KEPT_MASS if any(one.classes for one in found) else 0.0
    kind = KeptLogits if student_cfg.DISTILL.TEACHER.CACHE else SegTeacher
    teacher = kind(network, flip, _precision(student_cfg, network), classes, kept_mass)
    compile_parts(student_cfg, teacher.model.parts)
    teacher.stream = teacher_stream(student_cfg)
    return teacher


def _precision(student_cfg: CfgNode, network: DenseModel) -> torch.dtype:
    if not network.own_precision:
        return precision(student_cfg)
    if (name := student_cfg.DISTILL.TEACHER.PRECISION) not in ("auto", "float32"):
        raise UserError(
            f"DISTILL.TEACHER.PRECISION is {name}, but a program keeps that in which it was exported: want auto"
        )
    return torch.float32


@dataclass(frozen=True)
class _One:
    """A teacher's network, whether it wants the channels the other way round, and how its classes are the student's."""

    network: DenseModel
    flipped: bool
    classes: ClassMap | None


def _one(student_cfg: CfgNode) -> _One:
    node = student_cfg.DISTILL.TEACHER
    if not node.WEIGHTS:
        raise UserError(f"{KEY} is empty: give the trained model's weights")
    cfg = _config(student_cfg)
    names, order = names_of(cfg.DATASETS), cfg.INPUT.FORMAT
    refuse_exchanged_classes(names, node.WEIGHTS, KEY)
    network: DenseModel
    if cfg.MODEL.KIND != SMP:
        network = load_foreign(cfg, node.WEIGHTS, KEY, student_cfg.INPUT.CROP_SIZE)
        if network.says_pixels and (given := [name for name in ("PIXEL_MEAN", "PIXEL_STD", "STRIDE") if node[name]]):
            raise UserError(f"DISTILL.TEACHER.{given[0]}: {node.WEIGHTS} says that itself: leave the key empty")
        if node.FORMAT or node.CONFIG_FILE:
            check_format(cfg, network, f"{KEY}: {node.WEIGHTS}")
        order = network.channels or order
        names, count = names or list(network.names), network.class_count
        trained = getattr(network, "model", None)
    elif node.CONFIG_FILE:
        network = load_network(cfg, node.WEIGHTS, KEY)
        trained, count = network.smp, len(names)
    else:
        weights = fetch(node.WEIGHTS, KEY) if on_hub(node) else node.WEIGHTS
        network = _from_smp_folder(weights, cfg)
        trained, count = network.smp, count_classes(network.smp)
    if names and len(names) != count:
        raise UserError(f"{KEY}: {node.WEIGHTS} predicts {count} classes, but {len(names)} are named")
    classes = _classes(student_cfg, names, count)
    if trained is not None:
        check_trained(trained, f"{KEY}: {node.WEIGHTS}")
    if node.INPUT_SCALE != 1:
        network = Scaled(network, node.INPUT_SCALE)
    if classes is not None:
        network = InClasses(network, classes)
    return _One(network, order != student_cfg.INPUT.FORMAT, classes)


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
    if node.KIND != "auto":
        cfg.MODEL.KIND = node.KIND
    elif cfg.MODEL.KIND == SMP:
        cfg.MODEL.KIND = recognize(node.WEIGHTS)
    for name, key in BESIDE.items():
        if node[name]:
            cfg.merge_from_list([key, node[name]])
    check_values(cfg, GRAMMAR.keys())
    return cfg


def _from_smp_folder(weights: str, cfg: CfgNode) -> Network:
    """Without CONFIG_FILE it is taken to want what the default config says: RGB and SMP's ImageNet normalization."""
    if not Path(weights).exists():
        raise UserError(f"{KEY}: there is no file or folder {weights}")
    if not Path(weights).is_dir():
        raise UserError(
            f"DISTILL.TEACHER.CONFIG_FILE is empty: name the teacher's config, or in {KEY} a folder written by "
            "save_pretrained of SMP or transformers, a program (.pt2, .onnx, .torchscript), or module:function"
        )
    return Network(read_smp_folder(weights, KEY), cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD).to(cfg.MODEL.DEVICE)


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


# All that SMP needs; a pickle beside them is neither fetched nor read.
FILES = ("config.json", "model.safetensors")


def fetch(name: str, key: str) -> str:
    """The folder in Hugging Face's cache that holds the model "owner/name"; what is there already is not fetched.

    Args:
        key: what names it, for messages.

    Raises:
        UserError: there is no such model, or no network.
    """
    try:
        return snapshot_download(name, allow_patterns=list(FILES))
    except Exception as error:
        raise UserError(
            f"{key}: there is no file or folder {name}, and Hugging Face's hub does not give it: {one_line(error)}; "
            "without a network copy Hugging Face's cache here, or name a folder of SMP's save_pretrained"
        ) from error
