"""One run from its config to the files in OUTPUT_DIR: training, or the evaluation of weights."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from detectron2.config import CfgNode
from detectron2.engine import create_ddp_model, default_writers, hooks
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng

from densedist.common.config import saved
from densedist.common.config.files import read_file
from densedist.common.config.paths import resolve
from densedist.common.data.overlap import overlaps
from densedist.common.data.sides import SIDES
from densedist.common.distill.distiller import describe
from densedist.common.distill.sources import check_sources
from densedist.common.distill.sources import in_words as sources_in_words
from densedist.common.engine.batch_norm import has_local_batch_norm, share_buffers
from densedist.common.engine.checkpoint import CompleteCheckpointer
from densedist.common.engine.ending import evaluations, last_lines, schedule_warnings, scores_in_words
from densedist.common.engine.gradients import in_words
from densedist.common.engine.hooks import (
    AtEnd,
    Clock,
    Evaluation,
    KeepBest,
    ModelEMA,
    ProgressBar,
    RecentHistories,
    SaveCheckpoints,
    SeedEachStep,
    Watch,
)
from densedist.common.engine.preemption import Preemption
from densedist.common.engine.rehearsal import rehearse
from densedist.common.engine.run_folder import (
    RunCheckpointer,
    claimed_by_all,
    rewind_metrics,
    write_results,
)
from densedist.common.engine.solver import build_schedule, make_optimizer
from densedist.common.engine.trackers import build_trackers, refuse_missing_trackers
from densedist.common.engine.trainer import build_trainer
from densedist.common.errors import UserError
from densedist.common.files import write_text
from densedist.common.fingerprint import changed_keys
from densedist.common.logging import LogFile, on_terminal, printed_to_log, setup_logs
from densedist.common.randomness import RunPosition
from densedist.common.report.run import Facts, write_report
from densedist.common.run_classes import SAME_CLASSES, names_of, refuse_exchanged_classes, refuse_other_classes
from densedist.common.run_files import BEST, CONFIG, config_beside, has_checkpoints, is_finished, refuse_existing_run
from densedist.common.task import Results, TrainingTask, metric_of_each

logger = logging.getLogger(__name__)
USES = ("training", "pseudo-labeled", "unlabeled", "evaluation")  # the plan's words for SIDES


def train(
    cfg: CfgNode, task: TrainingTask, resume: bool = False, watch: Callable[[int, float], None] | None = None
) -> None:
    """Train the student of cfg for SOLVER.MAX_ITER iterations; checkpoints, metrics and results go to OUTPUT_DIR.

    Args:
        cfg: as task.load_config returns it.
        resume: go on from the last checkpoint in OUTPUT_DIR, if there is one.
        watch: called after each evaluation on the way with the iterations done and the metric that is the task's, of
            several test sets the mean; may raise RunEnded, which ends the run. For runs of one process.

    Raises:
        UserError: a wrong config, data or checkpoint, a loss that is not finite, a full disk.
        SystemExit: with preemption.REQUEUE, after SIGTERM and a checkpoint.
    """
    task.check_data(cfg)  # complains before anything is written
    check_sources(cfg, task.grammar.keys())
    with claimed_by_all(cfg.OUTPUT_DIR):
        if not resume:
            refuse_existing_run(cfg.OUTPUT_DIR)
        elif has_checkpoints(cfg.OUTPUT_DIR):
            remedy = f"{SAME_CLASSES}, or another OUTPUT_DIR"
            config = Path(cfg.OUTPUT_DIR, CONFIG)
            refuse_other_classes(names_of(cfg.DATASETS), config, "--resume", remedy)
            if is_finished(cfg.OUTPUT_DIR) and cfg.SOLVER.MAX_ITER <= read_file(str(config))["SOLVER"]["MAX_ITER"]:
                _leave_finished(cfg)
                return
        _train(cfg, task, resume, watch)


def _leave_finished(cfg: CfgNode) -> None:
    """Say that nothing is left to train; the folder stays as it is.

    Raises:
        UserError: the config has other settings than the run.
    """
    whole = f"{cfg.OUTPUT_DIR} holds a run that has come to its end: nothing is left to train"
    if changed := _changed(cfg):
        remedy = "raise SOLVER.MAX_ITER, or name another OUTPUT_DIR"
        raise UserError(f"--resume: {whole} with other settings ({'; '.join(changed)}); {remedy}")
    _start(cfg, brief=on_terminal())
    logger.info("\n".join([whole, *(f"  {line}" for line in last_lines(cfg))]))


def _train(cfg: CfgNode, task: TrainingTask, resume: bool, watch: Callable[[int, float], None] | None) -> None:
    """Train in a folder that is this run's alone; what it has is left as it is until the first step can be taken."""
    log = _start(cfg, brief=on_terminal())
    for line in schedule_warnings(cfg):
        logger.warning(line)
    other = "the weights for the one class are where the other starts"
    refuse_exchanged_classes(names_of(cfg.DATASETS), cfg.MODEL.WEIGHTS, "MODEL.WEIGHTS", other)
    torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
    trainee = task.build(cfg)
    model, student = trainee.model, trainee.student
    called = "student" if trainee.distillation else "model"  # who has no teacher is no student
    in_part = task.load_weights(student, cfg.MODEL.WEIGHTS, "MODEL.WEIGHTS", cfg.MODEL.TRUST_PICKLE)
    notes = [f"  {word:8} {note}" for word, note in trainee.notes.items()]
    shared = overlaps(cfg, task.images) if comm.is_main_process() else []
    changed = _changed(cfg) if resume else []
    notes += [f"  shared   {line}" for line in shared]
    notes += [f"  changed  {line}" for line in changed]
    about = [describe(student, trainee.distillation), *filter(None, [evaluations(cfg)])]
    plan = "\n".join(["plan", *_given(cfg, trainee.start, in_part), *notes, *about])
    logger.info(plan)
    if in_part:
        logger.warning(f"MODEL.WEIGHTS: {cfg.MODEL.WEIGHTS}: {in_part}")
    for line in shared:
        logger.warning(line)
    if changed:
        logger.warning(f"--resume continues with changed settings: {'; '.join(changed)}")
    metric = task.metric(cfg)
    if cfg.DATASETS.TEST:
        logger.info(f"{BEST} is the {called} with the highest {metric}")
    is_main = comm.is_main_process()
    refuse_missing_trackers(cfg)
    teacher = trainee.distillation.teacher if trainee.distillation else None
    average = teacher.average if teacher else None
    ema = ModelEMA(student, cfg.SOLVER.EMA_DECAY, average) if cfg.SOLVER.EMA_DECAY else None
    once = task.prepare(cfg, trainee)
    batches_from = task.training_batches(cfg)
    unused = trainee.unused_parameters
    # What TorchScript rounds otherwise after its first calls would differ after a resume. On a GPU speed counts more.
    exact = partial(torch.jit.optimized_execution, cfg.MODEL.DEVICE != "cpu")
    if cfg.REHEARSAL:
        with exact():
            rehearsed = rehearse(cfg, task, trainee, batches_from(RunPosition(0)))
        unused = rehearsed.unused
        if rehearsed.gradients.shares:
            at_the_start = f"  at the start, {in_words(rehearsed.gradients)}"
            at_the_start += ", before GRADIENT_SHARE" if cfg.DISTILL.GRADIENT_SHARE else ""
            logger.info(f"plan\n{at_the_start}")
            plan += f"\n{at_the_start}"
    optimizer = make_optimizer(cfg, model)
    # Without a GPU there is no device id; Detectron2 would give DDP the rank's number.
    options: dict[str, Any] = {} if cfg.MODEL.DEVICE.startswith("cuda") else {"device_ids": None}
    options |= {"broadcast_buffers": has_local_batch_norm(model)}
    options |= {"find_unused_parameters": unused}
    trainer = build_trainer(cfg, create_ddp_model(model, **options), optimizer, trainee.distillation)
    if ema:
        ema.start()  # now that all processes have the same student
    shown = ema.model if ema else student

    # What a checkpoint holds, by name.
    contents = {"model": shown, **trainee.beside, **({"trained": student} if ema else {}), "trainer": trainer}
    checkpointer = RunCheckpointer(output_dir=cfg.OUTPUT_DIR, keep=cfg.SOLVER.CHECKPOINTS_KEPT, **contents)
    best = CompleteCheckpointer(shown, cfg.OUTPUT_DIR, **trainee.beside)

    def as_users_get_it() -> AbstractContextManager:
        return ema.in_place() if ema else nullcontext()

    def evaluate_and_write() -> Results:
        with preemption.at_once(), as_users_get_it():
            share_buffers(student)
            if is_main and cfg.DATASETS.TEST:
                logger.info(f"evaluating on {', '.join(map(str, cfg.DATASETS.TEST))}")
            with printed_to_log() if on_terminal() else nullcontext():
                results = task.evaluate(cfg, model)
            write_results(cfg, results)
        if is_main and (scores := scores_in_words(results)):
            logger.info(f"scores   {scores}")
        return results

    def draw_and_report() -> None:
        output, gallery = Path(cfg.OUTPUT_DIR), None
        if cfg.TEST.EXAMPLES and cfg.DATASETS.TEST:
            drawn = trainee if average is None else replace(trainee, distillation=None)  # its own teacher
            with as_users_get_it():
                gallery = task.draw_examples(cfg, drawn, output / "examples.png", called=called)
        size, taught = sum(p.numel() for p in student.parameters()), None
        if teacher is not None:
            taught = sum(p.numel() for other in teacher.models for p in other.parameters())
        device = "GPU" if cfg.MODEL.DEVICE.startswith("cuda") else "CPU"
        numbers = comm.get_world_size(), trainer.seed, size, taught
        facts = Facts(plan, metric, _machine(cfg), device, *numbers, task.losses, type(student).__name__)
        write_report(output, facts, gallery)
        if watch is None:  # a search deletes the weights of its trials, so no command can take them
            logger.info("\n".join(["done", *(f"  {line}" for line in last_lines(cfg))]))

    with exact(), Preemption(trainer.device) as preemption:
        # The clock stops after the average, which is part of a step.
        trainer.register_hooks([RecentHistories(), ema, Clock(once), hooks.IterationTimer(), SeedEachStep()])
        trainer.register_hooks([hooks.LRScheduler(optimizer, build_schedule(cfg, optimizer))])
        # Before the evaluation, so that a failed one loses nothing.
        trainer.register_hooks([SaveCheckpoints(checkpointer, cfg, preemption)])
        # Before the writers, which log its results.
        trainer.register_hooks([Evaluation(cfg.TEST.EVAL_PERIOD, evaluate_and_write)])
        # After the hooks, whose states are in a checkpoint; it also has the seed of the run.
        iteration = checkpointer.resume() if resume else 0
        _begin(cfg, log)
        batches = batches_from(RunPosition(trainer.seed, iteration))
        trainer.reset_data_loader(lambda: batches)
        if is_main:
            rewind_metrics(cfg.OUTPUT_DIR, iteration)  # before the writers open it
            trainer.register_hooks([KeepBest(best, metric)])
            writers = [*default_writers(cfg.OUTPUT_DIR, cfg.SOLVER.MAX_ITER), *build_trackers(cfg)]
            trainer.register_hooks([hooks.PeriodicWriter(writers), AtEnd(draw_and_report)])
        if is_main and on_terminal():
            trainer.register_hooks([ProgressBar()])
        if watch:
            trainer.register_hooks([Watch(metric_of_each(cfg.DATASETS.TEST, metric), watch)])
        trainer.train(iteration, cfg.SOLVER.MAX_ITER)


def evaluate(cfg: CfgNode, task: TrainingTask, weights: str, key: str) -> Results:
    """Evaluate the plain student of a config with the given weights, and write the scores to OUTPUT_DIR.

    Args:
        key: what names the weights, for messages.

    Raises:
        UserError: wrong data, or weights that do not fit.
    """
    task.check_data(cfg, "TEST")
    refuse_other_classes(names_of(cfg.DATASETS), config_beside(weights), key)
    with claimed_by_all(cfg.OUTPUT_DIR):
        log = _start(cfg)
        model = task.load_model(cfg, weights, key)
        _begin(cfg, log, new_config=not has_checkpoints(cfg.OUTPUT_DIR))
        results = task.evaluate(cfg, model)
        write_results(cfg, results)
        if comm.is_main_process():
            scores = f"  scores   {scores_in_words(results) or 'none: there are no labels to score by'}"
            lines = [f"  weights  {weights}", scores, f"  written  {Path(cfg.OUTPUT_DIR, 'results.json')}"]
            logger.info("\n".join(["done", *lines]))
        return results


def _changed(cfg: CfgNode) -> list[str]:
    """Return what is set otherwise than in the run that OUTPUT_DIR holds, in words."""
    before = Path(cfg.OUTPUT_DIR, CONFIG)
    if not (has_checkpoints(cfg.OUTPUT_DIR) and before.is_file()):
        return []
    then, now = read_file(str(before)), yaml.safe_load(saved(cfg))
    for content in (then, now):
        resolve(content, Path.cwd())  # what one of them may have found in its config's folder
    return changed_keys(then, now)


def _given(cfg: CfgNode, start: str, in_part: str) -> list[str]:
    """Return the plan's lines on data and weights.

    Args:
        start: what the student starts from in addition to MODEL.WEIGHTS.
        in_part: what of it does not come from these.
    """
    node = cfg.DATASETS
    data = "; ".join(f"{side}: {', '.join(node[key])}" for side, key in zip(USES, SIDES, strict=True) if node[key])
    weights = " and ".join(filter(None, [start, cfg.MODEL.WEIGHTS])) or "random weights"
    starts = [f"  start    {line}" for line in (weights, in_part) if line]
    return [f"  data     {data}", *(f"  data     {line}" for line in sources_in_words(cfg)), *starts]


def _start(cfg: CfgNode, brief: bool = False) -> LogFile:
    """Set up the logs and random seeds of this process; lines for OUTPUT_DIR wait for _begin.

    Args:
        brief: see setup_logs.
    """
    rank = comm.get_rank()
    log = setup_logs(rank, brief)
    logger.info(f"{_machine(cfg)}; output in {cfg.OUTPUT_DIR}")
    if cfg.IMPORTS:
        logger.info(f"imported {', '.join(cfg.IMPORTS)}")
    seed_all_rng(None if cfg.SEED < 0 else cfg.SEED + rank)
    return log


def _begin(cfg: CfgNode, log: LogFile, new_config: bool = True) -> None:
    """Write config.yaml and log.txt to OUTPUT_DIR, now that nothing of the run can be refused.

    Args:
        new_config: False = the folder's own stays: it says what its checkpoints are.
    """
    output = Path(cfg.OUTPUT_DIR)
    output.mkdir(parents=True, exist_ok=True)  # of another machine, which may have another disk
    if new_config and comm.is_main_process():
        write_text(output / CONFIG, saved(cfg))
    log.open(cfg.OUTPUT_DIR, comm.get_rank())


def _machine(cfg: CfgNode) -> str:
    device = torch.cuda.get_device_name() if cfg.MODEL.DEVICE.startswith("cuda") else "CPU"
    count = comm.get_world_size()
    return f"torch {torch.__version__}, {count} process{'es' if count > 1 else ''}, {device}"
