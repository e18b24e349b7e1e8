"""Detectron2's engine put together once for every task."""

import json
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import create_ddp_model, default_writers, hooks
from detectron2.solver import build_optimizer, get_default_optimizer_params
from detectron2.solver.build import maybe_add_gradient_clipping
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from torch import nn

from densedist.common.engine.hooks import Average
from densedist.common.engine.checkpoint import CompleteCheckpointer
from densedist.common.errors import UserError
from densedist.common.engine.hooks import AtEnd, Clock, Evaluation
from densedist.common.distributed import has_local_batch_norm, share_buffers
from densedist.common.engine.preemption import Preemption
from densedist.common.logging import ProgressBar, on_terminal, setup_logs
from densedist.common.randomness import SeedEachStep
from densedist.common.report.page import write_report
from densedist.common.engine.run_folder import KeepBest, RunCheckpointer, SaveCheckpoints, rewind_metrics
from densedist.common.engine.solver import build_schedule
from densedist.common.data.loader import Start
from densedist.common.engine.trackers import build_trackers
from densedist.common.engine.trainer import build_trainer
from densedist.common.engine.checkpoint import SafeCheckpointer
from densedist.common.files import write_text

logger = logging.getLogger(__name__)

# {"bbox": {"AP": 40.1, …}} in percent, or the same for each of several data sets by name.
Results = Mapping[str, Any]


def start(cfg: CfgNode) -> None:
    """Prepare OUTPUT_DIR, the logs and the random seeds of this process."""
    output = Path(cfg.OUTPUT_DIR)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"OUTPUT_DIR: cannot make {output}: {error.strerror}") from error
    rank = comm.get_rank()
    setup_logs(str(output), rank)
    if comm.is_main_process():
        (output / "config.yaml").write_text(cfg.dump())
    logger.info(f"{_machine(cfg)}; output in {output}")
    seed_all_rng(None if cfg.SEED < 0 else cfg.SEED + rank)


def _machine(cfg: CfgNode) -> str:
    device = torch.cuda.get_device_name() if cfg.MODEL.DEVICE.startswith("cuda") else "CPU"
    return f"torch {torch.__version__}, {comm.get_world_size()} process(es), {device}"


def train(
    cfg: CfgNode,
    model: nn.Module,
    plan: str,
    loader: Callable[[Start], Iterable],
    evaluate: Callable[[], Results],
    best: str,
    examples: Callable[[Path], None],
    resume: bool = False,
    student: nn.Module | None = None,
    training_only: Mapping[str, Any] | None = None,
    unused_parameters: bool = False,
) -> None:
    """Train model for SOLVER.MAX_ITER iterations; checkpoints, metrics and results go to OUTPUT_DIR.

    Args:
        model: gives a dict of scalar losses for a batch of the loader.
        plan: what is going to be done, in words.
        loader: makes the endless batches from a start on.
        evaluate: called every TEST.EVAL_PERIOD iterations and at the end, by every process.
        best: the metric whose best checkpoint is kept as model_best.pth, e.g. "bbox/AP".
        examples: draws TEST.EXAMPLES test images, with what the models see, to a PNG; called by the main process.
        resume: go on from the last checkpoint in OUTPUT_DIR, if there is one.
        student: the part of model that users get: it starts from MODEL.WEIGHTS and is a checkpoint's "model";
            with SOLVER.EMA_DECAY its average is. Default: the model itself.
        training_only: parts of model that a checkpoint keeps beside the student, under their own names.
        unused_parameters: the model may have parameters that no loss depends on.

    Raises:
        UserError: a wrong config, data or checkpoint, a loss that is not finite, a full disk.
        SystemExit: with preemption.REQUEUE, after SIGTERM and a checkpoint.
    """
    logger.info(plan)
    student, parts = student or model, dict(training_only or {})
    is_main = comm.is_main_process()
    trackers = build_trackers(cfg) if is_main else []
    SafeCheckpointer(student, "", "MODEL.WEIGHTS", cfg.MODEL.TRUST_PICKLE).load(cfg.MODEL.WEIGHTS)
    optimizer = make_optimizer(cfg, model)
    # Without a GPU there is no device id; Detectron2 would give DDP the rank's number.
    device = {} if cfg.MODEL.DEVICE.startswith("cuda") else {"device_ids": None}
    local = has_local_batch_norm(model)
    trainer = build_trainer(
        cfg,
        create_ddp_model(model, broadcast_buffers=local, find_unused_parameters=unused_parameters, **device),
        optimizer,
    )
    average = _average(cfg, student)  # now that all processes have the same student
    shown = average.model if average else student
    if average:
        parts["trained"] = student
    checkpointer = RunCheckpointer(shown, cfg.OUTPUT_DIR, cfg.SOLVER.CHECKPOINTS_KEPT, trainer=trainer, **parts)
    scheduler = build_schedule(cfg, optimizer)

    def evaluate_and_write() -> Results:
        with preemption.at_once(), average.in_place() if average else nullcontext():
            share_buffers(student)
            results = evaluate()
            write_results(cfg, results)
        return results

    def draw_and_report() -> None:
        output, picture = Path(cfg.OUTPUT_DIR), None
        if cfg.TEST.EXAMPLES and cfg.DATASETS.TEST:
            picture = output / "examples.png"
            with average.in_place() if average else nullcontext():
                examples(picture)
        write_report(output, plan, best, _machine(cfg), picture)

    # What TorchScript rounds otherwise after its first calls would differ after a resume. On a GPU speed counts more.
    exact = torch.jit.optimized_execution(trainer.device.type != "cpu")
    with exact, Preemption(trainer.device) as preemption:
        trainer.register_hooks([Clock(), hooks.IterationTimer(), SeedEachStep()])
        trainer.register_hooks([hooks.LRScheduler(optimizer, scheduler), average])
        # Before the evaluation, so that a failed one loses nothing.
        trainer.register_hooks([SaveCheckpoints(checkpointer, cfg, preemption)])
        # Before the writers, which log its results.
        trainer.register_hooks([Evaluation(cfg.TEST.EVAL_PERIOD, evaluate_and_write)])
        first = checkpointer.resume() if resume else 0
        batches = loader(Start(trainer.seed, first))
        trainer.reset_data_loader(lambda: batches)
        if is_main:
            rewind_metrics(cfg.OUTPUT_DIR, first)  # before the writers open it
            best_of = CompleteCheckpointer(shown, cfg.OUTPUT_DIR, **(training_only or {}))
            trainer.register_hooks([KeepBest(best_of, best)])
            writers = [*default_writers(cfg.OUTPUT_DIR, cfg.SOLVER.MAX_ITER), *trackers]
            trainer.register_hooks([hooks.PeriodicWriter(writers), AtEnd(draw_and_report)])
        if is_main and on_terminal():
            trainer.register_hooks([ProgressBar()])
        trainer.train(first, cfg.SOLVER.MAX_ITER)


def _average(cfg: CfgNode, student: nn.Module) -> Average | None:
    decay = cfg.SOLVER.EMA_DECAY
    if not 0 <= decay < 1:
        raise UserError(f"SOLVER.EMA_DECAY is {decay}: want 0 (off) to below 1")
    return Average(student, decay) if decay else None


def make_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """SOLVER.OPTIMIZER: Detectron2's SGD, or AdamW with the same parameter groups and gradient clipping."""
    solver = cfg.SOLVER
    if solver.OPTIMIZER == "SGD":
        return build_optimizer(cfg, model)
    if solver.OPTIMIZER != "AdamW":
        raise UserError(f"SOLVER.OPTIMIZER is {solver.OPTIMIZER}: want SGD or AdamW")
    groups = get_default_optimizer_params(
        model,
        base_lr=solver.BASE_LR,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
    )
    adamw = torch.optim.AdamW(groups, lr=solver.BASE_LR, weight_decay=solver.WEIGHT_DECAY, fused=True)
    return maybe_add_gradient_clipping(cfg, adamw)


def write_results(cfg: CfgNode, results: Results) -> None:
    """Write OUTPUT_DIR/results.json from the main process; what is undefined (NaN) becomes null."""
    if comm.is_main_process():
        text = json.dumps(_without_nan(results), indent=2)
        write_text(Path(cfg.OUTPUT_DIR, "results.json"), text + "\n")


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if math.isnan(value) else float(value)
