"""A segmentation model and its teacher as common/profile.py measures them."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from detectron2.config import CfgNode
from torch import Tensor

from densedist.common.distill.teacher_files import locate_teacher, on_hub
from densedist.common.errors import UserError
from densedist.common.run_files import Weights
from densedist.common.task import Size, Subject, Subjects
from densedist.seg.foreign.kinds import SMP, recognize
from densedist.seg.inference.deployed import Deployed
from densedist.seg.models import load_config, load_trained, smp_network
from densedist.seg.teacher.loading import fetch


def load_subjects(student: Weights, teacher: str, device: str) -> Subjects:
    """The teacher, if there is one, and the student; the size of a training crop; what the images are.

    Args:
        teacher: its weights, or "none"; empty = those of the config.

    Raises:
        UserError: files that are missing or wrong.
    """
    cfg = load_config(student.config, student.overrides, student.trusted)
    sides = {"student": student}
    if found := _teacher_files(cfg, teacher, student):
        sides = {"teacher": found} | sides
    subjects = []
    for name, files in sides.items():
        trained = load_trained(files.under("MODEL.DEVICE", device))
        subjects.append(Subject(name, Deployed(smp_network(trained.model)).eval(), partial(_batch, device)))
    height, width = cfg.INPUT.CROP_SIZE
    return Subjects(subjects, (height, width), "random images; logits of their size")


def _teacher_files(cfg: CfgNode, given: str, student: Weights) -> Weights | None:
    """As locate_teacher; a folder of SMP's save_pretrained needs no config but the student's."""
    weights = given or cfg.DISTILL.TEACHER.WEIGHTS
    if not given and on_hub(cfg.DISTILL.TEACHER):
        weights = fetch(weights, "DISTILL.TEACHER.WEIGHTS")
    if (form := recognize(weights)) != SMP:
        raise UserError(
            f"--teacher: {weights} is a teacher of the form {form}, which is not measured: give --teacher none"
        )
    if (Path(weights) / "config.json").is_file() and (given or not cfg.DISTILL.TEACHER.CONFIG_FILE):
        return replace(student, file=weights, key="--teacher", overrides=())
    return locate_teacher(cfg.DISTILL.TEACHER, given)


def _batch(device: str, size: Size, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, *size), generator=generator, dtype=torch.uint8).to(device)
