"""Learning rate schedules: Detectron2's, and the polynomial one of segmentation."""

from detectron2.config import CfgNode
from detectron2.solver import LRMultiplier, WarmupParamScheduler, build_lr_scheduler
from fvcore.common.param_scheduler import ParamScheduler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from densedist.common.errors import UserError

STOCK = ("WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR")


class PolynomialDecay(ParamScheduler):
    """end + (1 - end) · (1 - where)^power for where in [0, 1], the part of the training that is done."""

    def __init__(self, end: float, power: float) -> None:
        self.end, self.power = end, power

    def __call__(self, where: float) -> float:
        return self.end + (1 - self.end) * (1 - where) ** self.power


def build_schedule(cfg: CfgNode, optimizer: Optimizer) -> LRScheduler:
    """SOLVER.LR_SCHEDULER_NAME: one of Detectron2's, or WarmupPolyLR from BASE_LR to BASE_LR_END.

    Raises:
        UserError: an unknown name, or BASE_LR_END not within 0 and BASE_LR.
    """
    solver = cfg.SOLVER
    if solver.LR_SCHEDULER_NAME not in (*STOCK, "WarmupPolyLR"):
        names = ", ".join(STOCK)
        raise UserError(f"SOLVER.LR_SCHEDULER_NAME is {solver.LR_SCHEDULER_NAME}: want WarmupPolyLR, {names}")
    if not 0 <= solver.BASE_LR_END <= solver.BASE_LR:
        raise UserError(f"SOLVER.BASE_LR_END is {solver.BASE_LR_END}: want 0 to SOLVER.BASE_LR, {solver.BASE_LR}")
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
