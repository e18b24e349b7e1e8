"""A whole step of this project's training loop beside one of somebody else's loop, of the same networks and batch."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import repeat
from pathlib import Path

import torch
from detectron2.engine import SimpleTrainer
from detectron2.utils.events import EventStorage

from densedist.common.engine.hooks import SeedEachStep
from densedist.common.engine.trainer import Trainer
from densedist.common.profile import Step, extra_bytes, medians, report


@dataclass(frozen=True)
class Case:
    """Two steps that learn the same."""

    name: str
    ours: Step
    theirs: Step


@dataclass(frozen=True)
class Result:
    """Seconds of both steps, and bytes of tensors beyond weights and optimizer."""

    name: str
    seconds: dict[str, float]
    memory: dict[str, int]


def main(cases: Sequence[Case], device: torch.device, file: Path | None) -> None:
    """Measure and print; write everything to file as JSON."""
    results = [measure(case, device) for case in cases]
    report("Loops: a step of ours / of theirs", table(results), [asdict(result) for result in results], device, file)


def measure(case: Case, device: torch.device) -> Result:
    """Both steps, taking turns."""
    steps = {"ours": case.ours, "theirs": case.theirs}
    seconds = medians(steps, device)
    return Result(case.name, seconds, {name: extra_bytes(step, device) for name, step in steps.items()})


def table(results: Sequence[Result]) -> list[dict[str, str]]:
    """One line a case."""
    return [
        {
            "loop": r.name,
            "ms": " / ".join(f"{1e3 * r.seconds[name]:.3g}" for name in ("ours", "theirs")),
            "ratio": f"{r.seconds['ours'] / r.seconds['theirs']:.3f}",
            "extra memory, MB": " / ".join(f"{r.memory[name] / 1e6:.0f}" for name in ("ours", "theirs")),
        }
        for r in results
    ]


def trainer_step(trainer: SimpleTrainer, batch: list[dict]) -> Step:
    """A step of a trainer that sees the same batch each time, with what ours does before it."""
    trainer.reset_data_loader(lambda: repeat(batch))
    trainer.iter, trainer.max_iter = 1, 1000  # not one of the few that look at gradients
    trainer.storage = EventStorage()
    if isinstance(trainer, Trainer):
        trainer.register_hooks([SeedEachStep()])

    def step() -> None:
        with trainer.storage:
            trainer.before_step()
            trainer.run_step()
            trainer.after_step()

    return step
