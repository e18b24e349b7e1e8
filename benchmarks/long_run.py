"""A run of as many iterations as a day on GPUs has, whose steps are empty: what is around a step, and what it piles up.

Its loop is that of every run, with all hooks: logs, events, checkpoints, evaluations, an average of the weights. It is
ended and resumed on the way. As many empty steps in Detectron2's trainer, with its default hooks, show what of it is
Detectron2's.
"""

import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.engine import SimpleTrainer, default_writers, hooks
from detectron2.utils.logger import setup_logger
from torch import Tensor, nn

from densedist.common.data.loader import Batches
from densedist.common.engine.hooks import RunEnded
from densedist.common.engine.solver import build_schedule, make_optimizer
from densedist.common.engine.train import train
from densedist.common.profile import report
from densedist.common.randomness import RunPosition
from densedist.common.report.panels import Gallery
from densedist.common.task import Results, Task, Trainee, TrainingTask

ITERATIONS = 200_000
LOSSES = 10  # as a distilled detector has
ENDINGS = (0.31, 0.72)  # shares of the run at which it is ended, to be resumed
EVALUATIONS = 40
CHECKPOINTS, KEPT = 100, 2


@dataclass(frozen=True)
class Result:
    """What a loop of empty steps takes.

    Args:
        seconds: of a step, of CPU time.
        memory: the process's peak in bytes after a tenth of the steps, and after all.
        disk: bytes of OUTPUT_DIR at the end.
        checkpoints: how many are kept.
    """

    name: str
    steps: int
    seconds: float
    memory: tuple[int, int]
    disk: int
    checkpoints: int


class Empty(nn.Module):
    """A model that gives many losses, of one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, batch: Any) -> dict[str, Tensor]:
        return {f"loss_{number}": self.weight * 1e-3 for number in range(LOSSES)}


class EmptyTask(TrainingTask):
    """Training of the empty model without data, with the keys of a task."""

    def __init__(self, task: Task) -> None:
        self.name, self.grammar, self.losses = task.name, task.grammar, task.losses

    def check_data(self, cfg: CfgNode, *sides: str) -> None:
        pass

    def images(self, cfg: CfgNode, side: str) -> set[str]:
        return set()

    def build(self, cfg: CfgNode) -> Trainee:
        model = Empty()
        return Trainee(model, model)

    def load_weights(self, student: Any, weights: str, key: str, trust_pickle: bool) -> str:
        return ""

    def prepare(self, cfg: CfgNode, trainee: Trainee) -> float:
        return 0.0

    def training_batches(self, cfg: CfgNode) -> Callable[[RunPosition], Batches]:
        return lambda position: repeat([])

    def metric(self, cfg: CfgNode) -> str:
        return "empty/score"

    def evaluate(self, cfg: CfgNode, model: Any, most: int | None = None) -> Results:
        return {"empty": {"score": model.weight.item()}}

    def draw_examples(
        self, cfg: CfgNode, trainee: Trainee, file: Path, beside: Any = None, called: str = "student"
    ) -> Gallery:
        raise NotImplementedError

    def load_model(self, cfg: CfgNode, weights: str, key: str) -> nn.Module:
        raise NotImplementedError


class Meter:
    """Looks at the process during a run of empty steps."""

    def __init__(self, iterations: int) -> None:
        self.iterations, self.early = iterations, 0
        self.start = time.process_time()

    def look(self, done: int) -> None:
        """Remember the memory after a tenth of the steps."""
        if not self.early and done >= self.iterations // 10:
            self.early = _peak()

    def result(self, name: str, folder: Path) -> Result:
        """Return what the run took that has just ended."""
        seconds = (time.process_time() - self.start) / self.iterations
        disk = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        return Result(name, self.iterations, seconds, (self.early, _peak()), disk, len(list(folder.glob("*.pth"))))


def main(task: Task, file: Path | None, iterations: int = ITERATIONS) -> None:
    """Measure each loop in a process of its own, and print; write everything to file as JSON."""
    results = []
    for loop in (ours, theirs):
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            results.append(pool.submit(loop, task, iterations).result())
    report("A long run", table(results), [asdict(result) for result in results], torch.device("cpu"), file)


def ours(task: Task, iterations: int) -> Result:
    """Run this project's loop, ended and resumed on the way."""
    meter = Meter(iterations)
    with tempfile.TemporaryDirectory() as folder:
        cfg = _config(task, folder, iterations)
        for share in (*ENDINGS, 1.0):
            with suppress(RunEnded):
                train(cfg, EmptyTask(task), resume=True, watch=partial(_watch, meter, share * iterations))
        return meter.result("this project", Path(folder))


def theirs(task: Task, iterations: int) -> Result:
    """Run Detectron2's trainer with the hooks of its DefaultTrainer."""
    meter = Meter(iterations)
    with tempfile.TemporaryDirectory() as folder:
        cfg = _config(task, folder, iterations)
        setup_logger(folder)
        model = Empty()
        optimizer = make_optimizer(cfg, model)
        trainer = SimpleTrainer(model, repeat([]), optimizer)
        checkpointer = DetectionCheckpointer(model, folder, trainer=trainer)

        def evaluate() -> Results:
            meter.look(trainer.iter)
            return {"empty": {"score": model.weight.item()}}

        trainer.register_hooks(
            [
                hooks.IterationTimer(),
                hooks.LRScheduler(optimizer, build_schedule(cfg, optimizer)),
                hooks.PeriodicCheckpointer(checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD, max_to_keep=KEPT),
                hooks.EvalHook(cfg.TEST.EVAL_PERIOD, evaluate),
                hooks.PeriodicWriter(default_writers(folder, iterations)),
            ]
        )
        trainer.train(0, iterations)
        return meter.result("Detectron2", Path(folder))


def table(results: Sequence[Result]) -> list[dict[str, str]]:
    """Return a row for each loop."""
    return [
        {
            "loop": r.name,
            "steps": str(r.steps),
            "CPU time of a step, ms": f"{1e3 * r.seconds:.3f}",
            "peak memory after a tenth, MB": f"{r.memory[0] / 1e6:.0f}",
            "after all": f"{r.memory[1] / 1e6:.0f}",
            "files, MB": f"{r.disk / 1e6:.1f}",
            "checkpoints": str(r.checkpoints),
        }
        for r in results
    ]


def _config(task: Task, folder: str, iterations: int) -> CfgNode:
    cfg = task.grammar.config()
    cfg.MODEL.DEVICE, cfg.OUTPUT_DIR, cfg.REHEARSAL = "cpu", folder, False
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.EMA_DECAY, cfg.SOLVER.CHECKPOINTS_KEPT = iterations, 0.999, KEPT
    cfg.SOLVER.CHECKPOINT_PERIOD = max(1, iterations // CHECKPOINTS)
    cfg.TEST.EVAL_PERIOD, cfg.TEST.EXAMPLES = max(1, iterations // EVALUATIONS), 0
    cfg.SEED = 0
    return cfg


def _watch(meter: Meter, end: float, done: int, score: float) -> None:
    meter.look(done)
    if end <= done < meter.iterations:
        raise RunEnded


def _peak() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
