"""A segmentation model and its teacher as common/profile.py measures them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import nn

from densedist.common.distill.teacher_files import locate_teacher, on_hub
from densedist.common.errors import UserError
from densedist.common.foreign.kinds import recognize
from densedist.common.profile import Images, load_subjects, random_images
from densedist.common.run_files import Weights
from densedist.common.task import Subjects
from densedist.seg.evaluation import metric
from densedist.seg.inference.deployed import Deployed
from densedist.seg.models import load_config, load_trained, smp_network
from densedist.seg.networks.architectures import fetch_smp_folder


def profile(student: Weights, teacher: str, beside: Mapping[str, Weights], device: str) -> Subjects:
    """Load student and teacher, to be measured on random images of the size of a training crop."""
    cfg = load_config(student.config, student.overrides, student.trusted)

    def prepare(files: Weights) -> tuple[nn.Module, Images]:
        network = smp_network(load_trained(files).model)
        return Deployed(network).eval(), lambda size, count: random_images(size, count).to(device)

    subjects = load_subjects(student, _teacher_files(cfg, teacher, student), beside, device, prepare, _compiled)
    height, width = cfg.INPUT.CROP_SIZE
    note = "random images; logits of their size"
    pixels = lambda size: random_images(size, 1).numpy()  # noqa: E731
    return Subjects(subjects, (height, width), note, cfg, metric(cfg), pixels)


def _compiled(model: nn.Module, threads: int) -> nn.Module:
    compiled: Any = torch.compile(model, options={"cpp.threads": threads})
    return compiled


def _teacher_files(cfg: CfgNode, given: str, student: Weights) -> Weights | None:
    """Locate the teacher's files; a folder of SMP's save_pretrained needs no config but the student's."""
    weights = given or cfg.DISTILL.TEACHER.WEIGHTS
    if not given and on_hub(cfg.DISTILL.TEACHER):
        weights = fetch_smp_folder(weights, "DISTILL.TEACHER.WEIGHTS")
    if kind := recognize(weights):
        raise UserError(
            f"--teacher: {weights} is a teacher of the kind {kind}, which is not measured: give --teacher none"
        )
    if (Path(weights) / "config.json").is_file() and (given or not cfg.DISTILL.TEACHER.CONFIG_FILE):
        return replace(student, file=weights, key="--teacher", overrides=())
    return locate_teacher(cfg.DISTILL.TEACHER, given)
