"""How long steps take, by turns; and models for one image, in one thread and in all, whoever runs them."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from densedist.common.errors import UserError
from densedist.common.machine import cores
from densedist.common.runtimes import Runtime

SECONDS = 10.0  # about how long all steps of a comparison are measured
LEAST = 20  # runs of which the slowest twentieth is told
CPU = torch.device("cpu")
Step = Callable[[], object]
MEANING = "threads: median (95 %), in ms,"
# Gives what computes one image in so many threads.
Prepare = Callable[[int], Step]


def medians(steps: Mapping[str, Step], device: torch.device) -> dict[str, float]:
    """Measure the median seconds of each step; see times()."""
    return {name: statistics.median(taken) for name, taken in times(steps, device).items()}


def times(steps: Mapping[str, Step], device: torch.device, least: int = 3) -> dict[str, list[float]]:
    """Measure the seconds of each step, after one call to warm up.

    The steps take turns, so that what else the machine does meets all of them alike: least to 100 times each.
    """
    warm_up = sum(_seconds(step, device) for step in steps.values())
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(min(100, max(least, int(SECONDS / warm_up)))):
        for name, step in steps.items():
            taken[name].append(_seconds(step, device))
    return taken


@dataclass(frozen=True)
class Latency:
    """Seconds for one image.

    Args:
        p95: that 95 of 100 images take at most.
        runs: how many were measured.
    """

    median: float
    p95: float
    runs: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Latency":
        return cls(statistics.median(seconds), float(np.percentile(seconds, 95)), len(seconds))

    def __str__(self) -> str:
        median, p95 = (f"{1e3 * x:.0f}" if x >= 0.1 else f"{1e3 * x:.3g}" for x in (self.median, self.p95))
        return f"{median} ({p95})"


def in_columns(seconds: Mapping[int, Latency]) -> dict[str, str]:
    """Return the cells of a table, by their headings."""
    return {f"{count} thread{'s' * (count > 1)}": str(latency) for count, latency in seconds.items()}


def thread_counts() -> list[int]:
    """Return 1 and the number of cores that this process may use."""
    return sorted({1, cores()})


def in_threads(step: Step) -> Prepare:
    """Return what runs a step of PyTorch in so many threads."""

    def prepare(threads: int) -> Step:
        def run() -> object:
            before = torch.get_num_threads()
            torch.set_num_threads(threads)
            try:
                return step()
            finally:
                torch.set_num_threads(before)

        return run

    return prepare


def in_graph(runtime: Runtime, file: Path, image: np.ndarray) -> Prepare:
    """Return what loads a graph in so many threads, and computes an image in it.

    Raises:
        UserError: by what is returned, if the graph takes images of another size only.
    """

    def prepare(threads: int) -> Step:
        graph = runtime.load(file, threads)
        height, width = graph.inputs[0].shape[-2:]
        if None not in (height, width) and (height, width) != image.shape[-2:]:
            raise UserError(f"{file} takes images of {height}x{width} only: give --size {height} {width}")
        return lambda: graph(image)

    return prepare


def latencies(models: Mapping[str, Prepare], threads: Sequence[int]) -> dict[str, dict[int, Latency]]:
    """Measure models in each number of threads, all by turns; on the CPU.

    Returns:
        of each model, by the number of threads.
    """
    steps = {(name, count): prepare(count) for name, prepare in models.items() for count in threads}
    taken = times({f"{name} {count}": step for (name, count), step in steps.items()}, CPU, LEAST)
    return {name: {count: Latency.of(taken[f"{name} {count}"]) for count in threads} for name in models}


def _seconds(step: Step, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
