"""Time and memory of a step, on the CPU and on a GPU; where it was measured; models that pass for trained ones."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar

import torch
from tabulate import tabulate
from torch import nn
from torch.profiler import ProfilerActivity, profile

M = TypeVar("M", bound=nn.Module)
Step = Callable[[], object]
SECONDS = 10.0  # about how long all steps of a comparison are measured


def medians(steps: Mapping[str, Step], device: torch.device) -> dict[str, float]:
    """Median seconds of each step, after one call to warm up.

    The steps take turns, so that what else the machine does meets all of them alike: 3 to 100 times each.
    """
    warm_up = sum(_seconds(step, device) for step in steps.values())
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(min(100, max(3, int(SECONDS / warm_up)))):
        for name, step in steps.items():
            times[name].append(_seconds(step, device))
    return {name: statistics.median(taken) for name, taken in times.items()}


def extra_bytes(step: Step, device: torch.device) -> int:
    """How many more bytes of tensors exist at the step's worst moment than before it.

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


@contextmanager
def busy_core() -> Iterator[subprocess.Popen]:
    """Another process that does nothing but use a core."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            yield process
        finally:
            process.kill()


def _seconds(step: Step, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def best_device() -> torch.device:
    """The GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def report(
    title: str,
    table: Sequence[Mapping[str, str]],
    results: Sequence[Mapping[str, Any]],
    device: torch.device,
    file: Path | None,
) -> None:
    """Print a table, a line for each mapping; write all results to file as JSON.

    Args:
        results: the figures behind the table, times in seconds.
        device: where they were measured.
    """
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{title}; {where}, torch {torch.__version__}")
    print(tabulate(table, headers="keys", tablefmt="pipe", disable_numparse=True))
    if file:
        file.write_text(json.dumps({"device": where, "torch": torch.__version__, "results": results}, indent=2) + "\n")


def as_if_trained(model: M) -> M:
    """The model, with vectors that are constant at first (biases, norms and their statistics) changed a little."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for vector in (*model.parameters(), *model.buffers()):
            if vector.dim() == 1 and vector.is_floating_point():
                vector += 0.01 * torch.rand(vector.shape, generator=generator).to(vector.device)
    return model
