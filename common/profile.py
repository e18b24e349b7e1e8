"""The cost of running a model, for teacher and student: time, memory, multiply-adds."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar

import torch
from detectron2.utils.analysis import FlopCountAnalysis
from tabulate import tabulate
from torch import nn
from torch.profiler import ProfilerActivity, profile

from densedist.common.data.headers import Size
from densedist.common.errors import UserError
from densedist.common.latency import forms_of, measure_forms, print_float_layers, print_forms
from densedist.common.logging import quiet
from densedist.common.run_files import Weights
from densedist.common.task import Subject, Subjects
from densedist.common.timing import Step, medians
from densedist.common.tradeoff import draw_tradeoff, points_of

BATCHES = (1, 4, 16)  # images at a time
# Elementwise operators and copies that fvcore does not know as such; a dropout does nothing in evaluation.
NO_PRODUCTS = {
    f"aten::{name}{end}"
    for name in ("ceil", "dropout", "feature_dropout", "hardswish", "hardsigmoid", "hardtanh", "pad", "silu")
    for end in ("", "_")
}
M = TypeVar("M", bound=nn.Module)
Images = Callable[[Size, int], Any]  # see Subject.batch


@dataclass(frozen=True)
class Cost:
    """The cost of a model at a size.

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
    subjects: Subjects,
    sizes: Sequence[Size],
    device: torch.device,
    exported: Path,
    file: Path | None,
    compiled: bool = False,
    picture: Path | None = None,
) -> None:
    """Measure and print; write everything to file as JSON.

    Args:
        sizes: sizes of images; empty = the usual one.
        device: where the models are; on the CPU they are also measured in each runtime, by turns.
        exported: a folder of `densedist export`, whose graphs are among what is measured there.
        compiled: also measure the models there as torch.compile runs them.
        picture: a PNG for accuracy against latency at the first size, on the CPU.

    Raises:
        UserError: a picture of fewer than two models or forms whose scores are known; a GPU that both do not measure.
    """
    sizes, on_cpu = sizes or [subjects.size], device.type == "cpu"
    if (compiled or picture) and not on_cpu:
        raise UserError(
            f"{'--compile' if compiled else '--picture'} measures on the CPU: hide the GPU by CUDA_VISIBLE_DEVICES="
        )
    with quiet():
        results = [measured for size in sizes for measured in measure(subjects.models, size, device)]
        forms = [
            form for size in sizes if on_cpu for form in measure_forms(forms_of(subjects, size, exported, compiled))
        ]
    figures = [asdict(result) for result in results]
    report(f"Inference of {subjects.note}", table(results), figures, device, file, [asdict(form) for form in forms])
    left_out = sorted({name for result in results for name in result.not_counted})
    names = "".join(f", {name}" for name in left_out)
    print(f"Multiply-adds do not include elementwise operations, copies, normalization{names}.")
    for size in sizes:
        seconds = {r.name: r.seconds[1] for r in results if r.size == size}
        if "teacher" in seconds:
            ratio = seconds["teacher"] / seconds["student"]
            print(f"{_text(size)}: the student is {ratio:.2f} times as fast as its teacher.")
    if forms:
        print_forms(forms)
        print_float_layers(exported, subjects.pixels(sizes[0]))
        if not any(exported.glob("model.*")):
            print(f"What `densedist export` writes to {exported}, with --int8 also in 8 bits, is measured, too.")
    if picture:
        points, missing = points_of(subjects, [form for form in forms if form.size == sizes[0]], exported)
        draw_tradeoff(points, subjects.metric, f"{_text(sizes[0])}, {subjects.note}", picture)
        print(f"accuracy against latency: {picture}" + "".join(f"\n  no score of {name}" for name in missing))


def load_subjects(
    student: Weights,
    teacher: Weights | None,
    beside: Mapping[str, Weights],
    device: str,
    prepare: Callable[[Weights], tuple[nn.Module, Images]],
    compile: Callable[[nn.Module, int], nn.Module],
) -> list[Subject]:
    """Load a student to a device, and before it its teacher, if there is one, and other models by name.

    Args:
        prepare: returns, for a model's files, the model in eval mode, and what makes its batches.
        compile: a model for so many threads; see Subject.compiled.
    """
    subjects = []
    for name, files in ({"teacher": teacher} | dict(beside) | {"student": student}).items():
        if files:
            model, images = prepare(files.under("MODEL.DEVICE", device))
            subjects.append(Subject(name, model, files, images, partial(compile, model)))
    return subjects


def random_images(size: Size, count: int) -> torch.Tensor:
    """Return so many raw images of noise (N, 3, H, W), uint8, the same each time."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, *size), generator=generator, dtype=torch.uint8)


@torch.no_grad()
def measure(subjects: Sequence[Subject], size: Size, device: torch.device) -> list[Cost]:
    """Measure all models, taking turns."""
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
        of_batches = {count: seconds[f"{subject.name} {count}"] for count in BATCHES}
        results.append(Cost(subject.name, size, parameters, work, not_counted, of_batches, memory))
    return results


def extra_bytes(step: Step, device: torch.device) -> int:
    """Measure how many more bytes of tensors exist at a step's peak than before it.

    On a GPU what PyTorch's allocator counts; on the CPU the profiler's record of all allocations, which
    has those of the calling thread only: the step is made to run in one.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return torch.cuda.max_memory_allocated(device) - before
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler calls it an error that there is no GPU
    try:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
            step()
    finally:
        torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        record.export_chrome_trace(str(file))
        events = json.loads(file.read_text())["traceEvents"]
    changes = sorted((e["ts"], e["args"]["Bytes"]) for e in events if e["name"] == "[memory]")
    return max(accumulate(change for _, change in changes), default=0)


def multiply_adds(model: nn.Module, batch: Any) -> tuple[int, list[str]]:
    """Count the multiply-adds of a forward pass, and name the operators that are not counted."""
    analysis = FlopCountAnalysis(model, (batch,))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    return int(analysis.total()), sorted(set(analysis.unsupported_ops()) - NO_PRODUCTS)


@contextmanager
def busy_core() -> Iterator[subprocess.Popen]:
    """Keep a core busy with another process within the block."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            yield process
        finally:
            process.kill()


def best_device() -> torch.device:
    """Return the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def as_if_trained(model: M) -> M:
    """Return the model with vectors that are constant at first (biases, norms and their statistics) changed a
    little."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for vector in (*model.parameters(), *model.buffers()):
            if vector.dim() == 1 and vector.is_floating_point():
                vector += 0.01 * torch.rand(vector.shape, generator=generator).to(vector.device)
    return model


def report(
    title: str,
    table: Sequence[Mapping[str, str]],
    results: Sequence[Mapping[str, Any]],
    device: torch.device,
    file: Path | None,
    runtimes: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Print a table, a line for each mapping; write all results to file as JSON.

    Args:
        results: the figures behind the table, times in seconds.
        device: where they were measured.
        runtimes: more figures for the file.
    """
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{title}; {where}, torch {torch.__version__}")
    print(tabulate(table, headers="keys", tablefmt="pipe", disable_numparse=True))
    if file:
        saved = {"device": where, "torch": torch.__version__, "results": results}
        file.write_text(json.dumps(saved | ({"runtimes": runtimes} if runtimes else {}), indent=2) + "\n")


def table(results: Sequence[Cost]) -> list[dict[str, str]]:
    """Return a table: a row for each figure and size, a column for each model, and teacher divided by student."""
    figures: Mapping[str, Callable[[Cost], float]] = {
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
            if "teacher" in values:
                line["teacher / student"] = f"{values['teacher'] / values['student']:.2f}"
            lines.append(line)
    return lines


def _throughput(result: Cost, count: int) -> float:
    return count / result.seconds[count]


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
