"""One optimizer step: accumulated, in the precision asked for, and only on losses that are finite."""

import logging
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from densedist.common.config.keys import PRECISIONS
from densedist.common.distributed import any_process
from densedist.common.errors import UserError

logger = logging.getLogger(__name__)


class Trainer(SimpleTrainer):
    """Detectron2's trainer with autocast, gradient accumulation and a check of the losses.

    Args:
        model: gives a dict of scalar losses for a batch.
        optimizer: clips the gradients itself, where the config says so.
        seed: of the run, 0 or more; that of a checkpoint takes its place.
        accumulation_steps: forwards and backwards of one step, whose gradients are averaged.
        precision: of autocast; None = off. With float16 the losses are scaled.
        max_skipped: steps of the whole run that may be skipped because a loss is not finite.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        seed: int = 0,
        accumulation_steps: int = 1,
        precision: torch.dtype | None = None,
        max_skipped: int = 0,
    ) -> None:
        super().__init__(model, [], optimizer)
        self.device = next(model.parameters()).device
        self.seed, self.accumulation_steps, self.precision = seed, accumulation_steps, precision
        self.max_skipped, self.skipped = max_skipped, 0
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision is torch.float16)

    def run_step(self) -> None:
        """
        Raises:
            UserError: a loss that is not finite, on any process, once max_skipped are used up.
        """
        self.optimizer.zero_grad()
        losses: dict[str, Tensor] = {}
        images: list[str] = []
        seconds = 0.0
        for number in range(self.accumulation_steps):
            start = time.perf_counter()
            batch = self._next_batch()
            seconds += time.perf_counter() - start
            images += [str(sample.get("file_name", sample.get("name"))) for sample in batch]
            with self._communication(last=number == self.accumulation_steps - 1):
                with torch.autocast(self.device.type, self.precision, enabled=self.precision is not None):
                    new = self.model(batch)
                self.scaler.scale(sum(new.values()) / self.accumulation_steps).backward()
            for name, loss in new.items():
                losses[name] = losses.get(name, 0) + loss.detach() / self.accumulation_steps
        self.after_backward()
        if self._losses_are_finite(losses, images):
            self._write_metrics(losses, seconds)
            # Before the step, as clipping within it needs the gradients' true size.
            self.scaler.unscale_(self.optimizer)
            self.scaler.step(self.optimizer)
            self.scaler.update()

    def _next_batch(self) -> list[dict[str, Any]]:
        try:
            return next(self._data_loader_iter)
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise UserError(
                f"{str(error).splitlines()[0]}: it was killed, often for want of memory; lower "
                "DATALOADER.NUM_WORKERS, and --resume goes on from the last checkpoint"
            ) from error

    def _communication(self, last: bool) -> AbstractContextManager:
        """Gradients are averaged over the processes once, with the last of the accumulation steps."""
        parallel = isinstance(self.model, DistributedDataParallel)
        return self.model.no_sync() if parallel and not last else nullcontext()

    def _losses_are_finite(self, losses: dict[str, Tensor], images: list[str]) -> bool:
        """On all processes; else the step is skipped, or the run ends."""
        finite = torch.stack(list(losses.values())).isfinite()
        if not any_process(not finite.all(), self.device):
            return True
        bad = [f"{name} is {loss.item()}" for name, loss in losses.items() if not loss.isfinite()]
        found = f"{', '.join(bad)} at iteration {self.iter} (process {comm.get_rank()}; images {', '.join(images)})"
        # Every process knows of it and shows the same.
        text = "; ".join(filter(None, comm.all_gather(found if bad else "")))
        self.skipped += 1
        if self.skipped > self.max_skipped:
            raise UserError(
                f"{text}: lower SOLVER.BASE_LR or the loss's weight, look at the images, "
                f"or allow skipped steps by SOLVER.MAX_SKIPPED_STEPS, now {self.max_skipped}"
            )
        logger.warning(f"{text}: step skipped, {self.skipped} of at most {self.max_skipped}")
        return False

    def state_dict(self) -> dict[str, Any]:
        mine = {"seed": self.seed, "scaler": self.scaler.state_dict(), "skipped": self.skipped}
        return super().state_dict() | mine

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.scaler.load_state_dict(state_dict["scaler"])
        self.seed, self.skipped = state_dict["seed"], state_dict["skipped"]


def build_trainer(cfg: CfgNode, model: nn.Module, optimizer: torch.optim.Optimizer) -> Trainer:
    """The trainer of SEED and SOLVER.{ACCUMULATION_STEPS, AMP, MAX_SKIPPED_STEPS}."""
    solver = cfg.SOLVER
    precision = PRECISIONS[solver.AMP.PRECISION] if solver.AMP.ENABLED else None
    seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
    return Trainer(model, optimizer, seed, solver.ACCUMULATION_STEPS, precision, solver.MAX_SKIPPED_STEPS)
