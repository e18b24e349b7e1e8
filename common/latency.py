"""How long models take for an image in whatever runs them: PyTorch, compiled or not, and each runtime; by turns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tabulate import tabulate

from densedist.common.data.headers import Size
from densedist.common.errors import UserError, one_line
from densedist.common.runtimes import CONVERSION, FLOAT, INT8, RUNTIMES, Runtime, Spent
from densedist.common.task import Subject, Subjects
from densedist.common.timing import (
    MEANING,
    Latency,
    Prepare,
    Step,
    in_columns,
    in_graph,
    in_threads,
    latencies,
    thread_counts,
)

PYTORCH, COMPILED = "PyTorch", "PyTorch, compiled"
SHOWN = 4  # kinds of layers that a line names


@dataclass(frozen=True)
class Form:
    """How long a model takes for one image of a size, in what runs it, by the number of threads.

    Args:
        model: its name, as "student".
        ran: PYTORCH, COMPILED, or a runtime and its numbers, as "onnxruntime, INT8" (see form_name).
    """

    model: str
    ran: str
    size: Size
    seconds: dict[int, Latency]


# The size of an image and what computes it, by the model's name and what runs it.
Forms = Mapping[tuple[str, str], tuple[Size, Prepare]]


def form_name(runtime: Runtime, precision: str) -> str:
    """Return what a runtime's file in a precision ("" = float32) is called in tables."""
    return f"{runtime.title}, {'INT8' if precision == INT8 else FLOAT}"


def exported_files(folder: Path) -> dict[tuple[Runtime, str], Path]:
    """Return the graphs in a folder of `densedist export` that can be run here, by runtime and precision."""
    files = {(runtime, precision): runtime.file(precision) for runtime in RUNTIMES.values() for precision in ("", INT8)}
    there = {key: folder / name for key, name in files.items() if (folder / name).is_file()}
    return {key: file for key, file in there.items() if key[0].is_installed()}


def forms_of(subjects: Subjects, size: Size, exported: Path, compiled: bool) -> Forms:
    """Return the models in PyTorch, and the student as it was exported, each with what computes an image.

    Args:
        exported: the student's folder of `densedist export`.
        compiled: also by torch.compile.
    """
    forms: dict[tuple[str, str], Prepare] = {}
    for subject in subjects.models:
        forms[subject.name, PYTORCH] = in_threads(partial(subject.model, subject.batch(size, 1)))
        if compiled:
            forms[subject.name, COMPILED] = _compiled(subject, size)
    pixels = subjects.pixels(size)
    for (runtime, precision), file in exported_files(exported).items():
        forms[subjects.models[-1].name, form_name(runtime, precision)] = in_graph(runtime, file, pixels)
    return {key: (size, prepare) for key, prepare in forms.items()}


@torch.no_grad()
def measure_forms(forms: Forms) -> list[Form]:
    """Measure all forms by turns, in one thread and in all cores; on the CPU."""
    seconds = latencies({", ".join(key): prepare for key, (_, prepare) in forms.items()}, thread_counts())
    return [Form(*key, size, seconds[", ".join(key)]) for key, (size, _) in forms.items()]


def print_forms(forms: Sequence[Form]) -> None:
    """Print a table of latencies."""
    runs = next(iter(forms[0].seconds.values())).runs
    print(f"One image in each runtime, by turns; {MEANING} of {runs} runs:")
    lines = [
        {"size": f"{form.size[0]}x{form.size[1]}", "": f"{form.model}, {form.ran}"} | in_columns(form.seconds)
        for form in forms
    ]
    print(tabulate(lines, headers="keys", tablefmt="pipe", disable_numparse=True))


def print_float_layers(exported: Path, pixels: np.ndarray) -> None:
    """Print for each INT8 graph of an export a line that says which layers stay in float32, and what they take."""
    for (runtime, precision), file in exported_files(exported).items():
        if precision == INT8:
            print(f"{form_name(runtime, precision)}: {float_layers(runtime.spent(file, pixels))}")


def float_layers(layers: Sequence[Spent]) -> str:
    """Say how many layers stay in float32, and their share of the time; the kinds that take the most come first."""
    total = sum(layer.seconds for layer in layers)
    share: Callable[[Sequence[Spent]], float] = lambda some: 100 * sum(x.seconds for x in some) / total  # noqa: E731
    of = {number: [layer for layer in layers if layer.number == number] for number in (INT8, FLOAT, CONVERSION)}
    kinds = {kind: share([x for x in of[FLOAT] if x.kind == kind]) for kind in dict.fromkeys(x.kind for x in of[FLOAT])}
    first = sorted(kinds, key=lambda kind: -kinds[kind])[:SHOWN]
    named = ", ".join(f"{kind} {kinds[kind]:.0f} %" for kind in first)
    return (
        f"{len(of[FLOAT])} layers stay in float32 and take {share(of[FLOAT]):.0f} % of the time of one thread "
        f"({named}); {len(of[INT8])} in 8 bits take {share(of[INT8]):.0f} %, conversions {share(of[CONVERSION]):.0f} %"
    )


def _compiled(subject: Subject, size: Size) -> Prepare:
    def prepare(threads: int) -> Step:
        step = in_threads(partial(subject.compiled(threads), subject.batch(size, 1)))(threads)
        try:
            step()
        except Exception as error:  # theirs are many
            why = f"--compile: torch.compile cannot run the {subject.name} ({one_line(error)})"
            raise UserError(f"{why}: it needs a C++ compiler; or leave out --compile") from error
        return step

    return prepare
