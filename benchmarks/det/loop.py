"""Detectron2's own training loop of a Faster R-CNN R50 alone, beside ours without a teacher."""

import torch
from detectron2.engine import SimpleTrainer
from detectron2.solver import build_optimizer

from benchmarks.det.models import config, random_model, random_sample
from benchmarks.loops import Case, trainer_step
from densedist.common.engine.solver import make_optimizer
from densedist.common.engine.trainer import build_trainer
from densedist.det.models import plain_model, stock_config

SIZE = (128, 192)
STUDENT = "faster_rcnn_r50.yaml"


def case(device: torch.device, size: tuple[int, int] | None) -> Case:
    """With random weights, on two random images.

    Args:
        size: height and width of the images; None = SIZE.
    """
    size = size or SIZE
    # Random weights stay where they are.
    cfg = config(STUDENT, device, "SOLVER.BASE_LR", "1e-6", "SOLVER.BASE_LR_END", "0.0")
    ours = random_model(cfg).train()
    theirs = plain_model(ours, cfg).train()
    batch = [random_sample(size, seed) for seed in range(2)]
    optimizer = build_optimizer(stock_config(cfg), theirs)
    return Case(
        f"Faster R-CNN R50 alone, Detectron2's loop, 2 images of {size}",
        trainer_step(build_trainer(cfg, ours, make_optimizer(cfg, ours)), batch),
        trainer_step(SimpleTrainer(theirs, [], optimizer), batch),
    )
