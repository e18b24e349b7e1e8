"""One optimizer step: accumulated, in the precision asked for, and only on losses that are finite."""

import logging
import math
import time
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from densedist.common.distill.distiller import Distillation
from densedist.common.distill.teacher import Teacher
from densedist.common.distributed import any_process
from densedist.common.engine.gradient_share import GradientShare, gradient_share_of
from densedist.common.engine.gradients import compare_gradients, in_words, is_look, outweighs
from densedist.common.errors import UserError, one_line
from densedist.common.report.history import COSINE, GRADIENT

logger = logging.getLogger(__name__)
SHARE = "gradient_share"  # the name of its state in a checkpoint


class Trainer(SimpleTrainer):
    """Detectron2's trainer with autocast, gradient accumulation and a check of the losses.

    Args:
        model: gives a dict of scalar losses for a batch.
        optimizer: clips the gradients itself, where the config says so.
        seed: the run's, 0 or more; a checkpoint's replaces it.
        accumulation_steps: forwards and backwards of one step, whose gradients are averaged.
        precision: autocast's; None = off. With float16 the losses are scaled.
        max_skipped: steps of the whole run that may be skipped because a loss is not finite.
        teacher: the model's teacher, where losses that are not finite may come from.
        distilled: the names of the losses of distillation.
        share: keeps their share of the gradient constant; None = they stay as they are.
        may_outweigh: a line says once where they have more of the gradient than the labels.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        seed: int = 0,
        accumulation_steps: int = 1,
        precision: torch.dtype | None = None,
        max_skipped: int = 0,
        teacher: Teacher | None = None,
        distilled: Collection[str] = (),
        share: GradientShare | None = None,
        may_outweigh: bool = False,
    ) -> None:
        super().__init__(model, [], optimizer)
        self.distilled, self.share, self.may_outweigh = distilled, share, may_outweigh
        self.device = next(model.parameters()).device
        self.seed, self.accumulation_steps, self.precision = seed, accumulation_steps, precision
        self.max_skipped, self.skipped, self.teacher = max_skipped, 0, teacher
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision is torch.float16)

    def run_step(self) -> None:
        """Train on the next batch, in accumulation steps.

        Raises:
            UserError: a loss that is not finite, on any process, once max_skipped are used up.
        """
        self.optimizer.zero_grad()
        logged: dict[str, float] = {}
        seconds = 0.0
        for step in range(self.accumulation_steps):
            start = time.perf_counter()
            batch = self._next_batch()
            seconds += time.perf_counter() - start
            with self._communication(last=step == self.accumulation_steps - 1):
                found = self._finite_losses(batch)
                if found is None:  # skipped, on all processes
                    for _ in range(step + 1, self.accumulation_steps):
                        self._next_batch()  # the next step has those that it would have had
                    return
                losses, values = found
                if self.share is not None:
                    if step == 0 and self.share.is_due(self.iter):
                        self._log(self.share.look(losses, self.iter, list(self.model.parameters()), self._scale()))
                    losses, values = self.share.scaled(losses), self.share.scaled(values)
                if step == 0 and self.teacher is not None and is_look(self.iter, self.max_iter):
                    self._look_at_gradients(losses)
                total: Any = sum(losses.values())
                self.scaler.scale(total / self.accumulation_steps).backward()
            for name, value in values.items():
                logged[name] = logged.get(name, 0.0) + value / self.accumulation_steps
        self.after_backward()
        self._write_metrics({name: torch.tensor(mean, dtype=torch.float64) for name, mean in logged.items()}, seconds)
        # Before the step, as clipping within it needs the gradients' true size.
        self.scaler.unscale_(self.optimizer)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def _look_at_gradients(self, losses: dict[str, Tensor]) -> None:
        """Log each loss's share of the gradient, and the angle of distillation and task, of this process's batch."""
        found = compare_gradients(losses, list(self.model.parameters()), self._scale(), self.distilled)
        if found.shares:
            logger.info(f"iteration {self.iter}: {in_words(found)}")
            if self.may_outweigh and outweighs(found, self.distilled):
                self.may_outweigh = False
                logger.info("distillation outweighs the labels; to let them decide in the end: DISTILL.DECAY linear")
            self._log({f"{GRADIENT}{name}": share for name, share in found.shares.items()})
            if found.cosine is not None and self.share is None:  # which logs the mean of all processes
                self._log({COSINE: found.cosine})

    def _scale(self) -> float:
        return self.scaler.get_scale()

    def _log(self, numbers: Mapping[str, float]) -> None:
        self.storage.put_scalars(**numbers, smoothing_hint=False)

    def after_train(self) -> None:
        # Ends the loader's workers. Left to the garbage collector, which is what frees a trainer, the queues' threads
        # would end before the loader's iterator tells the workers, and it would wait 5 s for each.
        self.reset_data_loader(list)
        super().after_train()

    def _next_batch(self) -> list[dict[str, Any]]:
        try:
            return on_device(next(self._data_loader_iter), self.device)
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise UserError(
                f"{str(error).splitlines()[0]}: it was killed, often because memory ran out; lower "
                "DATALOADER.NUM_WORKERS, and --resume continues from the last checkpoint"
            ) from error

    def _communication(self, last: bool) -> AbstractContextManager:
        """Average gradients over the processes only with the last of the accumulation steps."""
        parallel = isinstance(self.model, DistributedDataParallel)
        return self.model.no_sync() if parallel and not last else nullcontext()

    def _finite_losses(self, batch: list[dict[str, Any]]) -> tuple[dict[str, Tensor], dict[str, float]] | None:
        """Return a batch's losses and their values; None if one is not finite on any process: all skip the step then.

        Raises:
            UserError: max_skipped are used up.
        """
        losses, values, bad = {}, {}, []
        try:
            losses = self._losses(batch)
            # With one process, all that the program waits for the device here; a model may wait more.
            values = dict(zip(losses, torch.stack(list(losses.values())).tolist(), strict=True))
        except FloatingPointError as error:  # Detectron2's own word for it, before there are losses
            bad = [one_line(error)]
        bad += [f"{name} is {value}" for name, value in values.items() if not math.isfinite(value)]
        # Before the backward pass, in which processes wait for one another.
        if not any_process(bool(bad), self.device):
            return losses, values
        images = ", ".join(str(sample.get("file_name", sample.get("name"))) for sample in batch)
        found = f"{', '.join(bad)} at iteration {self.iter} (process {comm.get_rank()}; images {images})"
        # Every process knows of it and shows the same.
        text = "; ".join(filter(None, comm.all_gather(found if bad else "")))
        self.skipped += 1
        if self.skipped > self.max_skipped:
            raise UserError(
                f"{text}: {self._remedy(batch)}, look at the images, "
                f"or allow skipped steps by SOLVER.MAX_SKIPPED_STEPS, now {self.max_skipped}"
            )
        logger.warning(f"{text}: step skipped, {self.skipped} of at most {self.max_skipped}")
        return None

    def _losses(self, batch: list[dict[str, Any]]) -> dict[str, Tensor]:
        with torch.autocast(self.device.type, self.precision, enabled=self.precision is not None):
            return self.model(batch)

    def _remedy(self, batch: list[dict[str, Any]]) -> str:
        """Find where the numbers that are not finite come from, and say what to change."""
        if self.teacher is not None:
            with self.teacher.overflows() as where, torch.no_grad(), suppress(FloatingPointError):
                self._losses(batch)
            # All processes have looked, and say the same.
            if any(where := comm.all_gather(where[0] if where else "")):
                part, precision = next(filter(None, where)), str(self.teacher.precision).removeprefix("torch.")
                return f"set DISTILL.TEACHER.PRECISION to bfloat16 or float32, as its {part} overflows {precision}"
        return "lower SOLVER.BASE_LR or the loss's weight"

    def state_dict(self) -> dict[str, Any]:
        mine = {"seed": self.seed, "scaler": self.scaler.state_dict(), "skipped": self.skipped}
        mine |= {} if self.share is None else {SHARE: self.share.state_dict()}
        return super().state_dict() | mine

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.scaler.load_state_dict(state_dict["scaler"])
        self.seed, self.skipped = state_dict["seed"], state_dict["skipped"]
        if self.share is not None and SHARE in state_dict:  # a run may go on with a share that it began without
            self.share.load_state_dict(state_dict[SHARE])


def build_trainer(
    cfg: CfgNode, model: nn.Module, optimizer: torch.optim.Optimizer, distillation: Distillation | None = None
) -> Trainer:
    """Build the trainer that SEED, SOLVER.{ACCUMULATION_STEPS, AMP, MAX_SKIPPED_STEPS} and
    DISTILL.{DECAY, GRADIENT_SHARE, GRADIENT_PERIOD} describe."""
    solver = cfg.SOLVER
    precision = getattr(torch, solver.AMP.PRECISION) if solver.AMP.ENABLED else None
    seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
    options = (seed, solver.ACCUMULATION_STEPS, precision, solver.MAX_SKIPPED_STEPS)
    if distillation is None:
        return Trainer(model, optimizer, *options)
    distiller = distillation.distiller
    share = gradient_share_of(cfg, distiller)
    # Where images have no labels, what is taught of them is to stay.
    free = share is None and distiller.schedule.decay == "none" and not cfg.DATASETS.UNLABELED
    return Trainer(model, optimizer, *options, distillation.teacher, distiller.loss_names, share, free)


def on_device(data: Any, device: torch.device) -> Any:
    """Move all tensors of the samples to a device.

    Those in the pinned memory of build_loader's batches are copied while the program goes on. What is no tensor, list,
    tuple or dict, such as Detectron2's Instances, stays where it is.
    """
    if isinstance(data, Tensor):
        return data.to(device, non_blocking=True)
    if type(data) in (list, tuple):
        return type(data)(on_device(part, device) for part in data)
    return {name: on_device(part, device) for name, part in data.items()} if type(data) is dict else data
