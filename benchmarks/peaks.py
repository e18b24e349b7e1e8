"""The memory of a plan beside that of a real step on the CPU, at full size."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from detectron2.utils.events import EventStorage

from benchmarks.launches import ROWS
from densedist.common.data.headers import Size
from densedist.common.engine.gradient_share import TRIES
from densedist.common.engine.solver import make_optimizer
from densedist.common.engine.trainer import build_trainer
from densedist.common.plan.step import take_step
from densedist.common.profile import extra_bytes, report
from densedist.common.task import Task
from densedist.tasks import task_named

IMAGES = 2
FLOAT32 = "DISTILL.TEACHER.PRECISION", "float32"  # a CPU is slow in float16


@dataclass(frozen=True)
class Result:
    """Bytes at the worst moment of a first step, beyond the weights.

    Args:
        planned: by the plan.
        real: as PyTorch's profiler has them.
    """

    name: str
    planned: int
    real: int


def main(file: Path | None, size: Size | None) -> None:
    """Take a step of each row by itself and print; write everything to file as JSON."""
    results = []
    for recipe in ROWS:
        with TemporaryDirectory() as folder:
            task = task_named(recipe.partition("/")[0])
            results.append(Result(recipe, *planned_and_real(task, Path(folder), recipe, *FLOAT32, size=size)))
        print(table(results[-1:]), flush=True)
    title = f"Memory of a first step of {IMAGES} images, beyond the weights"
    report(title, table(results), [asdict(one) for one in results], torch.device("cpu"), file)


def planned_and_real(task: Task, folder: Path, config: str, *keys: object, size: Size | None = None) -> tuple[int, int]:
    """Return the bytes of a Result.

    Args:
        folder: for random weights.
        size: of the images; None = as the config says.
    """
    planned = task.planned(task.read_config(str(config), list(map(str, keys))), folder)
    trainee, batch = task.build(planned.cfg), planned.batch(size or planned.size, IMAGES, 0)
    step = take_step(planned, trainee, planned.cfg, batch)
    trainee.model.zero_grad()
    optimizer = make_optimizer(planned.cfg, trainee.model)
    trainer = build_trainer(planned.cfg, trainee.model, optimizer, trainee.distillation)
    trainer.reset_data_loader(lambda: iter([batch]))
    trainer.iter, trainer.max_iter = TRIES, 10**9
    with EventStorage() as trainer.storage:
        real = extra_bytes(trainer.run_step, torch.device("cpu"))
    return max(peak.total for peak in step.peaks.values()), real


def table(results: Sequence[Result]) -> list[dict[str, str]]:
    """Return a row for each recipe."""
    return [
        {
            "recipe": f"`{r.name.removesuffix('.yaml')}`",
            "planned, GB": f"{r.planned / 1e9:.2f}",
            "real, GB": f"{r.real / 1e9:.2f}",
            "planned / real": f"{r.planned / r.real:.3f}",
        }
        for r in results
    ]
