"""What a run says about itself: what its schedule will not do, its scores, and at the end where its files are."""

from pathlib import Path

from detectron2.config import CfgNode
from detectron2.utils.events import get_event_storage, has_event_storage

from densedist.common.report.run import how_to_get_curves
from densedist.common.report.scores import flatten, in_words, overall
from densedist.common.run_files import BEST, FINAL, REPORT
from densedist.common.shell import command, quoted
from densedist.common.task import Results

LONGEST_WARMUP = 0.25  # share of the iterations that needs no warning


def schedule_warnings(cfg: CfgNode) -> list[str]:
    """Return what a schedule will not do: reach its learning rate, or reach it soon."""
    last, warmup = cfg.SOLVER.MAX_ITER, cfg.SOLVER.WARMUP_ITERS
    if warmup <= LONGEST_WARMUP * last:
        return []
    if warmup >= last:  # Detectron2 then goes from WARMUP_FACTOR straight to the schedule's last value, which may be 0
        said = f"SOLVER.MAX_ITER, {last}, ends within SOLVER.WARMUP_ITERS, {warmup}: the learning rate never reaches "
        said += "SOLVER.BASE_LR, so the model learns little or nothing"
    else:
        said = f"the learning rate rises for SOLVER.WARMUP_ITERS, {warmup}, of SOLVER.MAX_ITER, {last}, iterations, "
        said += "so the model learns little"
    return [f"{said}; lower SOLVER.WARMUP_ITERS, e.g. to {last // 10}"]


def evaluations(cfg: CfgNode) -> str:
    """Return the plan's line on when a run evaluates; "" where it does not."""
    period = cfg.TEST.EVAL_PERIOD
    if not cfg.DATASETS.TEST:
        return ""
    if 0 < period < cfg.SOLVER.MAX_ITER:
        return f"  scored   every {period} iterations, and at the end"
    return f"  scored   once, at the end; {how_to_get_curves(period, cfg.SOLVER.MAX_ITER)}"


def on_the_way(cfg: CfgNode) -> bool:
    """Return whether a run goes on after this evaluation."""
    return has_event_storage() and get_event_storage().iter < cfg.SOLVER.MAX_ITER


def scores_in_words(results: Results) -> str:
    """Return the scores that are of no single class, as "box AP 40.1, box AP50 60.3"; "" where there are none."""
    shown = overall(flatten(results))
    return ", ".join(f"{in_words(name)} {'-' if value is None else f'{value:.1f}'}" for name, value in shown.items())


def last_lines(cfg: CfgNode) -> list[str]:
    """Return where the page and the weights of a finished run are, and what to do with them next."""
    output = Path(cfg.OUTPUT_DIR)
    page = output / REPORT
    best = f"; best checkpoint: {output / BEST}" if (output / BEST).is_file() else ""
    lines = [f"report   {page}"] if page.is_file() else []
    lines.append(f"weights  {output / FINAL}{best}")
    words = ["--weights", cfg.OUTPUT_DIR, *(["MODEL.TRUST_PICKLE", "True"] if cfg.MODEL.TRUST_PICKLE else [])]
    if cfg.DATASETS.TEST:
        lines.append(f"next     {command('visualize', *words)}")
    if cfg.DISTILL.TEACHER.WEIGHTS or cfg.DISTILL.TEACHER.CONFIG_FILE:
        if cfg.DATASETS.TEST:  # on whose images exports are compared
            lines.append(f"export   {command('export', *words)}")
    else:
        keys = quoted(["DISTILL.TEACHER.WEIGHTS", cfg.OUTPUT_DIR])
        lines.append(f"teach    a student: {keys} in its training command")
    return lines
