"""The frozen segmentation teacher: from its own config and weights to its output for the student's batch."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import Tensor

from densedist.common.config import load
from densedist.common.distill.checks import check_same_classes, check_trained
from densedist.common.distill.teacher import Teacher, precision
from densedist.common.errors import UserError
from densedist.seg.architectures import count_classes, read_smp_folder
from densedist.seg.config import GRAMMAR, get_cfg
from densedist.seg.network import Network, load_network
from densedist.seg.taps import resize_at

logger = logging.getLogger(__name__)


class SegTeacher(Teacher[Network]):
    """A frozen network."""

    def for_batch(
        self, samples: Sequence[Mapping[str, Any]], student: Mapping[str, Tensor], size: Sequence[int]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """output() for training samples, and for those maps that are not of all places which are, bool (N, h, w)."""
        return self.output([sample["image"] for sample in samples], student, size), {}

    def output(self, images: Sequence[Tensor], student: Mapping[str, Tensor], size: Sequence[int]) -> dict[str, Tensor]:
        """The teacher's output for those parts of it that the student has, at the student's places in the images.

        Args:
            images: raw images (3, H, W), 0 to 255, in the student's channel order.
            student: maps (N, C, h, w) by name, as of seg.network.Network.
            size: height and width of the student's batch of these images; the teacher may pad its own otherwise.
        """
        batch = self.model.preprocess(self.own_order(images)).to(self.precision)
        with self.alone():
            output = self.model(batch)
        return {
            name: resize_at(output[name], maps.shape[2:], batch.shape[2:], size)
            for name, maps in student.items()
            if name in output
        }


def load_teacher(student_cfg: CfgNode, kind: type[SegTeacher] = SegTeacher) -> SegTeacher:
    """The teacher that DISTILL.TEACHER of the student's config names, on the student's device.

    WEIGHTS may be a folder of SMP's save_pretrained. Without CONFIG_FILE it is then taken to want what the
    default config says: RGB and SMP's ImageNet normalization.

    Raises:
        UserError: a missing config or weights, weights that do not fit or were never trained, classes other
            than the student's, or an unknown precision.
    """
    node = student_cfg.DISTILL.TEACHER
    if not node.WEIGHTS:
        raise UserError("DISTILL.TEACHER.WEIGHTS is empty: give the trained model's weights")
    key = "DISTILL.TEACHER.WEIGHTS"
    with torch.random.fork_rng():  # its initial weights are overwritten; the student's run stays as without it
        if node.CONFIG_FILE:
            # Where it runs and whom to trust is not for the teacher's author to say.
            own = {"MODEL.DEVICE": student_cfg.MODEL.DEVICE, "MODEL.TRUST_PICKLE": student_cfg.MODEL.TRUST_PICKLE}
            own |= {"TRUST_IMPORTS": student_cfg.TRUST_IMPORTS}
            words = [str(word) for pair in own.items() for word in pair]
            cfg = load(GRAMMAR, node.CONFIG_FILE, words, "DISTILL.TEACHER.CONFIG_FILE", own=False)
            check_same_classes(*([c["name"] for c in side.DATASETS.CLASSES] for side in (student_cfg, cfg)))
            logger.info(f"student and teacher have the same {len(cfg.DATASETS.CLASSES)} classes in the same order")
            network = load_network(cfg, node.WEIGHTS, key)
        else:
            cfg = get_cfg()
            network = _from_smp_folder(student_cfg, cfg)
    check_trained(network.smp, f"{key}: {node.WEIGHTS}")
    return kind(network, cfg.INPUT.FORMAT != student_cfg.INPUT.FORMAT, precision(student_cfg))


def _from_smp_folder(student_cfg: CfgNode, defaults: CfgNode) -> Network:
    weights = student_cfg.DISTILL.TEACHER.WEIGHTS
    if not Path(weights).is_dir():
        raise UserError(
            "DISTILL.TEACHER.CONFIG_FILE is empty: name the teacher's config, or in DISTILL.TEACHER.WEIGHTS "
            "a folder written by SMP's save_pretrained"
        )
    model = read_smp_folder(weights, "DISTILL.TEACHER.WEIGHTS")
    ours, theirs = len(student_cfg.DATASETS.CLASSES), count_classes(model)
    if ours != theirs:
        raise UserError(f"DISTILL.TEACHER.WEIGHTS: the student has {ours} classes, the teacher {theirs}")
    logger.info(f"{ours} classes on both sides; their order is not checked, as {weights} does not name them")
    return Network(model, defaults.MODEL.PIXEL_MEAN, defaults.MODEL.PIXEL_STD).to(student_cfg.MODEL.DEVICE)
