"""Optimizers and learning rate schedules: Detectron2's, AdamW, and the polynomial decay of segmentation."""

import torch
from detectron2.config import CfgNode
from detectron2.solver import (
    LRMultiplier,
    WarmupParamScheduler,
    build_lr_scheduler,
    build_optimizer,
    get_default_optimizer_params,
)
from detectron2.solver.build import maybe_add_gradient_clipping
from fvcore.common.param_scheduler import ParamScheduler
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


def make_optimizer(cfg: CfgNode, model: nn.Module) -> Optimizer:
    """Build SOLVER.OPTIMIZER: Detectron2's SGD, or AdamW with the same parameter groups and clipping."""
    solver = cfg.SOLVER
    if solver.OPTIMIZER == "SGD":
        return build_optimizer(cfg, model)
    groups = get_default_optimizer_params(
        model,
        base_lr=solver.BASE_LR,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
    )
    adamw = torch.optim.AdamW(groups, lr=solver.BASE_LR, weight_decay=solver.WEIGHT_DECAY, fused=True)
    return maybe_add_gradient_clipping(cfg, adamw)


class PolynomialDecay(ParamScheduler):
    """end + (1 - end) · (1 - where)^power for where in [0, 1], the part of the run that is done."""

    def __init__(self, end: float, power: float) -> None:
        self.end, self.power = end, power

    def __call__(self, where: float) -> float:
        return self.end + (1 - self.end) * (1 - where) ** self.power


def build_schedule(cfg: CfgNode, optimizer: Optimizer) -> LRScheduler:
    """Build SOLVER.LR_SCHEDULER_NAME: one of Detectron2's, or WarmupPolyLR from BASE_LR to BASE_LR_END."""
    solver = cfg.SOLVER
    if solver.LR_SCHEDULER_NAME != "WarmupPolyLR":
        return build_lr_scheduler(cfg, optimizer)
    schedule = WarmupParamScheduler(
        PolynomialDecay(solver.BASE_LR_END / solver.BASE_LR, solver.POLY_LR_POWER),
        solver.WARMUP_FACTOR,
        min(solver.WARMUP_ITERS / solver.MAX_ITER, 1.0),
        solver.WARMUP_METHOD,
        solver.RESCALE_INTERVAL,
    )
    return LRMultiplier(optimizer, multiplier=schedule, max_iter=solver.MAX_ITER)


def stretched(solver: CfgNode, longer: float) -> list[str]:
    """Return the overrides that make a run longer by a factor and move SOLVER.STEPS with its end."""
    steps = tuple(round(step * longer) for step in solver.STEPS)
    return ["SOLVER.MAX_ITER", str(max(1, round(solver.MAX_ITER * longer))), "SOLVER.STEPS", str(steps)]
