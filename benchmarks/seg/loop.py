"""The DIST authors' loop of segmentation as they publish it, written anew, beside ours: PSPNet R18, Cityscapes' crops.

Theirs: both networks whole and as PyTorch lays them out, the teacher with its auxiliary head, DIST as its formula says
on both heads, cross entropy at the size of the labels. One optimizer and the same networks on both sides.
"""

import copy
import tempfile
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.formulas import dist
from benchmarks.loops import Case, trainer_step
from benchmarks.seg.models import (
    NAMES,
    SIZE,
    STUDENT,
    config,
    random_images,
    random_teacher,
    samples,
    save_teacher,
)
from densedist.common.engine.solver import make_optimizer
from densedist.common.engine.trainer import build_trainer
from densedist.common.profile import Step
from densedist.seg.labels import IGNORE
from densedist.seg.models import build_segmenter
from densedist.seg.networks.dense import DenseModel

AUXILIARY = 0.4  # of the second head, in both losses


def case(device: torch.device, size: tuple[int, int] | None) -> Case:
    """With random weights, on two random images.

    Args:
        size: height and width of the images; None = SIZE.
    """
    size = size or SIZE
    teacher = random_teacher(device)
    with tempfile.TemporaryDirectory() as folder:
        # Random weights stay where they are.
        rate = "SOLVER.BASE_LR", "1e-6", "SOLVER.BASE_LR_END", "0.0"
        cfg = config(STUDENT, device, *save_teacher(teacher, Path(folder)), *rate)
        segmenter = build_segmenter(cfg).train()
    own = copy.deepcopy(segmenter.network)
    images, labels = random_images(size)
    return Case(
        f"{NAMES}, the authors' loop, 2 images of {size}",
        trainer_step(build_trainer(cfg, segmenter, make_optimizer(cfg, segmenter)), samples(images, labels)),
        published_step(own, teacher, make_optimizer(cfg, own), images, labels),
    )


def published_step(
    student: DenseModel, teacher: DenseModel, optimizer: torch.optim.Optimizer, images: list[Tensor], labels: Tensor
) -> Step:
    """A step of the authors' loop.

    Args:
        images, labels: a batch, on any device.
    """
    device = student.mean.device
    student.to(memory_format=torch.contiguous_format).train()
    teacher.to(memory_format=torch.contiguous_format).eval().requires_grad_(False)

    def step() -> None:
        batch = (torch.stack(images).to(device) - student.mean) / student.std
        wanted = labels.to(device)
        with torch.no_grad():
            taught = teacher(batch)
        given = student(batch)
        losses = []
        for name, weight in (("cls_logits", 1.0), ("aux_logits", AUXILIARY)):
            large = F.interpolate(given[name], wanted.shape[1:], mode="bilinear", align_corners=True)
            losses.append(weight * F.cross_entropy(large, wanted, ignore_index=IGNORE))
            losses.append(weight * dist(given[name], taught[name]))
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        optimizer.step()

    return step
