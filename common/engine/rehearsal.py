"""Rehearse a run before it begins, with one step, one evaluation and one drawing: what cannot work ends at once."""

import copy
import logging
import re
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import Tensor

from densedist.common.data.loader import Batches, first_batch, images_per_process
from densedist.common.distributed import any_process
from densedist.common.engine.gradients import Gradients, compare_gradients
from densedist.common.errors import UserError, one_line
from densedist.common.logging import quiet
from densedist.common.randomness import kept_random_state, seeded
from densedist.common.task import Trainee, TrainingTask
from densedist.common.words import duration

logger = logging.getLogger(__name__)
NOT_MEASURED = Gradients({}, None)
OFF = "REHEARSAL False begins anyway, --debug shows where"
# Messages that point to a key: PyTorch's batch norm, and timm's models of one size.
ONE_VALUE = re.compile(r"Expected more than 1 value per channel")
ONE_SIZE = re.compile(r"Input (height|width|size).*(match|divisible)")


class Rehearsed(NamedTuple):
    """What a rehearsal found.

    Args:
        unused: a parameter got no gradient, on any process.
        gradients: at the start; without a teacher nothing is measured.
        seconds: of the step, without reading its batch.
        idle: the losses of distillation that are 0 on the first batch.
    """

    unused: bool
    gradients: Gradients
    seconds: float = 0.0
    idle: Sequence[str] = ()


def rehearse(cfg: CfgNode, task: TrainingTask, trainee: Trainee, batches: Batches) -> Rehearsed:
    """Try once what a run does, on a copy of the trainee: a step without an update, an evaluation of one test image for
    each process, and a drawing of one.

    Parameters, running statistics, random states and OUTPUT_DIR stay as they are. All processes call it.

    Args:
        trainee: on its device, in training mode.
        batches: the run's batches.

    Raises:
        UserError: what failed, and the keys that it depends on.
    """
    start = time.perf_counter()
    logger.info("rehearsing a step, an evaluation and a drawing …")
    device = next(trainee.model.parameters()).device
    with kept_random_state(device), seeded(0), quiet(), tempfile.TemporaryDirectory() as folder:
        actor = copy.deepcopy(trainee)
        seen = _step(cfg, actor, batches, device)
        small = _small(cfg, folder)
        if cfg.DATASETS.TEST:
            with _named("an evaluation", "MODEL, INPUT, DATASETS.TEST and TEST"):
                task.evaluate(small, actor.model, comm.get_world_size())
            if cfg.TEST.EXAMPLES and comm.is_main_process():
                with _named("a drawing", "INPUT, or TEST.EXAMPLES, of which 0 draws nothing"):
                    task.draw_examples(small, actor, Path(folder, "examples.png"))
    comm.synchronize()
    # An average begins as the student; where training and eval mode compute alike, it has nothing to teach yet.
    averages = trainee.distillation is not None and trainee.distillation.teacher.average is not None
    if seen.idle and not cfg.DISTILL.WARMUP_ITERS and not averages:
        logger.warning(
            f"{', '.join(seen.idle)}: 0 on the first batch, so the teacher teaches nothing there: check "
            "DISTILL.TEACHER.CLASSES, and in segmentation KEPT_MASS"
        )
    logger.info(f"rehearsed a step, an evaluation and a drawing in {time.perf_counter() - start:.1f} s")
    if seen.seconds:
        count = cfg.SOLVER.MAX_ITER
        logger.info(f"{count} iterations as slow as this first one take {duration(count * seen.seconds)}")
    return seen._replace(unused=any_process(seen.unused, device))


def _step(cfg: CfgNode, actor: Trainee, batches: Batches, device: torch.device) -> Rehearsed:
    solver = cfg.SOLVER
    actor.model.train()
    with _named("a training step", "MODEL, INPUT, DISTILL and SOLVER", _hint(cfg)):
        batch = first_batch(batches)
        with EventStorage(), torch.autocast(device.type, getattr(torch, solver.AMP.PRECISION), solver.AMP.ENABLED):
            start = time.perf_counter()
            try:
                losses = actor.model(batch)
            except FloatingPointError:  # whether the run goes on is for the trainer to say
                return Rehearsed(False, NOT_MEASURED)
        _wait(device)
        seconds = time.perf_counter() - start
        parameters = list(actor.model.parameters())
        scaler = torch.amp.GradScaler(device.type, enabled=solver.AMP.ENABLED and solver.AMP.PRECISION == "float16")
        gradients = NOT_MEASURED
        if actor.distillation:
            distilled = actor.distillation.distiller.loss_names
            gradients = compare_gradients(losses, parameters, scaler.get_scale(), distilled)
        start = time.perf_counter()
        sum(losses.values()).backward()
        _wait(device)
        seconds += time.perf_counter() - start
    unused = any(p.grad is None for p in parameters if p.requires_grad)
    actor.model.zero_grad()
    return Rehearsed(unused, gradients, seconds, _idle(actor, losses))


def _wait(device: torch.device) -> None:
    """Wait until the device has computed what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _idle(actor: Trainee, losses: Mapping[str, Tensor]) -> list[str]:
    names = actor.distillation.distiller.loss_names if actor.distillation else ()
    return [name for name, loss in losses.items() if name in names and loss.item() == 0]


def _small(cfg: CfgNode, folder: str) -> CfgNode:
    """Return the config for one test image and for files in a temporary folder."""
    small = cfg.clone()
    small.defrost()
    small.OUTPUT_DIR, small.TEST.EXAMPLES, small.DATALOADER.NUM_WORKERS = folder, 1, 0
    return small


@contextmanager
def _named(what: str, keys: str, hints: dict[re.Pattern, str] | None = None) -> Iterator[None]:
    """Turn any exception into one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        # That a process lacks memory is an exception of its own.
        lacking = isinstance(error, torch.OutOfMemoryError)
        memory = "the GPU's memory does not suffice: lower SOLVER.IMS_PER_BATCH, or raise SOLVER.ACCUMULATION_STEPS"
        known = next((words for words in (hints or {}).items() if words[0].search(str(error))), None)
        hint = memory if lacking else known[1] if known else f"look at {keys}"
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(frame.filename).name}:{frame.lineno}"
        raise UserError(f"{what} fails in the rehearsal: {one_line(error)} ({where}): {hint}; {OFF}") from error


def _hint(cfg: CfgNode) -> dict[re.Pattern, str]:
    count, parts = cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.ACCUMULATION_STEPS
    share = images_per_process(cfg, count, "SOLVER.IMS_PER_BATCH")
    return {
        ONE_VALUE: f"batch norm needs more than the {share} image that SOLVER.IMS_PER_BATCH {count} gives each process "
        f"in {parts} part(s): raise it, or lower SOLVER.ACCUMULATION_STEPS or the number of processes",
        ONE_SIZE: "this model takes images of one size, or of multiples of one: set INPUT to it, or take another model",
    }
