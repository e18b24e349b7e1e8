"""What a model costs whoever runs it, teacher and student side by side."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from detectron2.utils.analysis import FlopCountAnalysis
from torch import nn

from densedist.common.benchmark.measure import Step, extra_bytes, medians, report
from densedist.common.logging import quiet

BATCHES = (1, 4, 16)  # images at a time
Size = tuple[int, int]  # height, width


# Elementwise operators and copies that fvcore does not know as such; a dropout does nothing in evaluation.
NO_PRODUCTS = {
    f"aten::{name}{end}"
    for name in ("ceil", "dropout", "feature_dropout", "hardswish", "hardsigmoid", "hardtanh", "pad", "silu")
    for end in ("", "_")
}


@dataclass(frozen=True)
class Subject:
    """A model in eval mode.

    Args:
        name: "teacher" or "student".
        batch: what the model takes for so many images of a size, on its device.
    """

    name: str
    model: nn.Module
    batch: Callable[[Size, int], Any]


@dataclass(frozen=True)
class Result:
    """Of a model at a size.

    Args:
        parameters: how many.
        multiply_adds: for one image, in the convolutions and matrix products that fvcore counts.
        not_counted: operators whose work is not in multiply_adds, but for elementwise ones and copies.
        seconds: for a batch of so many images, the median.
        memory: bytes of weights and, at the worst moment of one image, of all other tensors.
    """

    name: str
    size: Size
    parameters: int
    multiply_adds: int
    not_counted: list[str]
    seconds: dict[int, float]
    memory: int


def measure_and_report(
    subjects: Sequence[Subject], sizes: Sequence[Size], note: str, device: torch.device, file: Path | None
) -> None:
    """Measure and print; write everything to file as JSON.

    Args:
        subjects: the student; before it its teacher, if there is one.
        note: what images they are.
    """
    with quiet():
        results = [measured for size in sizes for measured in measure(subjects, size, device)]
    report(f"Inference of {note}", table(results), [asdict(result) for result in results], device, file)
    left_out = sorted({name for result in results for name in result.not_counted})
    names = "".join(f", {name}" for name in left_out)
    print(f"Multiply-adds leave out elementwise operations, copies, normalization{names}.")
    for size in sizes if len(subjects) > 1 else []:
        teacher, student = (r for r in results if r.size == size)
        ratio = teacher.seconds[1] / student.seconds[1]
        print(f"{_text(size)}: the student is {ratio:.2f} times as fast as its teacher: what distillation bought.")


@torch.no_grad()
def measure(subjects: Sequence[Subject], size: Size, device: torch.device) -> list[Result]:
    """All models, taking turns."""
    steps: dict[tuple[str, int], Step] = {
        (subject.name, count): partial(subject.model, subject.batch(size, count))
        for count in BATCHES
        for subject in subjects
    }
    seconds = medians({f"{name} {count}": step for (name, count), step in steps.items()}, device)
    results = []
    for subject in subjects:
        work, not_counted = multiply_adds(subject.model, subject.batch(size, 1))
        weights = [*subject.model.parameters(), *subject.model.buffers()]
        memory = sum(w.numel() * w.element_size() for w in weights) + extra_bytes(steps[subject.name, 1], device)
        parameters = sum(p.numel() for p in subject.model.parameters())
        times = {count: seconds[f"{subject.name} {count}"] for count in BATCHES}
        results.append(Result(subject.name, size, parameters, work, not_counted, times, memory))
    return results


def multiply_adds(model: nn.Module, batch: Any) -> tuple[int, list[str]]:
    """Of a forward, and the operators that are not counted."""
    analysis = FlopCountAnalysis(model, (batch,))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    return int(analysis.total()), sorted(set(analysis.unsupported_ops()) - NO_PRODUCTS)


def table(results: Sequence[Result]) -> list[dict[str, str]]:
    """A line for each figure at each size, a column for each model, and teacher divided by student."""
    figures: Mapping[str, Callable[[Result], float]] = {
        "parameters, M": lambda r: r.parameters / 1e6,
        "multiply-adds, G": lambda r: r.multiply_adds / 1e9,
        "latency of one image, ms": lambda r: 1e3 * r.seconds[1],
        **{f"images / s, {n} at a time": partial(_throughput, count=n) for n in BATCHES},
        "peak memory of one image, MB": lambda r: r.memory / 1e6,
    }
    lines = []
    for size in dict.fromkeys(result.size for result in results):
        for figure, value in figures.items():
            values = {r.name: value(r) for r in results if r.size == size}
            line = {"size": _text(size), "": figure} | {name: f"{v:.4g}" for name, v in values.items()}
            if len(values) > 1:
                line["teacher / student"] = f"{values['teacher'] / values['student']:.2f}"
            lines.append(line)
    return lines


def _throughput(result: Result, count: int) -> float:
    return count / result.seconds[count]


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
