"""A training step of student, teacher and losses, beside the student's step and the teacher's forward by themselves."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import torch
from detectron2.utils.events import EventStorage
from torch import nn

from densedist.common.profile import Step, extra_bytes, medians, report

Losses = Mapping[str, torch.Tensor]
PLUS = "+ "


def faster_teachers(device: torch.device) -> dict[str, tuple[str, str]]:
    """The keys that make a teacher faster, and what turns them on, as far as the device knows them."""
    keys = ["COMPILE", *["STREAM"] * (device.type == "cuda")]
    return {f"TEACHER.{key}": (f"DISTILL.TEACHER.{key}", "True") for key in keys}


@dataclass(frozen=True)
class Case:
    """A student in training, the same one without a teacher, a batch, and what the teacher does for it.

    Args:
        more: the distilled student with one more key each, by its name.
    """

    name: str
    distilled: nn.Module
    alone: nn.Module
    batch: list[dict]
    teach: Step
    more: Mapping[str, nn.Module] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """Seconds, and bytes of tensors beyond the weights, of the whole step, its two parts by themselves, and with more
    keys."""

    name: str
    seconds: dict[str, float]
    memory: dict[str, int]


def main(cases: Sequence[Case], device: torch.device, file: Path | None) -> None:
    """Measure and print; write everything to file as JSON.

    A step is forward and backward; the optimizer's part, the same with a teacher and without, is left out.
    """
    results = [measure(case, device) for case in cases]
    title = "Step: student + teacher + losses / (student alone + teacher's forward alone)"
    report(title, table(results), [asdict(result) for result in results], device, file)


def measure(case: Case, device: torch.device) -> Result:
    """The steps, taking turns."""
    steps: dict[str, Step] = {
        "together": partial(_step, case.distilled, case.batch),
        "student": partial(_step, case.alone, case.batch),
        "teacher": case.teach,
        **{f"{PLUS}{name}": partial(_step, model, case.batch) for name, model in case.more.items()},
    }
    with EventStorage():  # detectors write their statistics to one
        seconds = medians(steps, device)
        memory = {name: extra_bytes(step, device) for name, step in steps.items()}
    return Result(case.name, seconds, memory)


def _step(model: nn.Module, batch: list[dict]) -> None:
    model.zero_grad()
    losses: Losses = model(batch)
    torch.stack(list(losses.values())).sum().backward()


def table(results: Sequence[Result]) -> list[dict[str, str]]:
    """One line a case; with more keys the ratio to the step without them."""
    more = list(dict.fromkeys(name for r in results for name in r.seconds if name.startswith(PLUS)))
    return [
        {
            "pair": r.name,
            "ms": " / ".join(f"{1e3 * r.seconds[name]:.3g}" for name in ("together", "student", "teacher")),
            "ratio": f"{r.seconds['together'] / (r.seconds['student'] + r.seconds['teacher']):.3f}",
            "extra memory, MB": " / ".join(f"{r.memory[n] / 1e6:.0f}" for n in ("together", "student", "teacher")),
        }
        | {name: f"{r.seconds[name] / r.seconds['together']:.3f}" if name in r.seconds else "" for name in more}
        for r in results
    ]
