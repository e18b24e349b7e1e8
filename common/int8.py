"""INT8 files of an export, and what they lose and gain: scores, sizes, and latencies by turns."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from tabulate import tabulate

from densedist.common.data.images import evenly
from densedist.common.errors import UserError, one_line
from densedist.common.export import Exporter
from densedist.common.latency import PYTORCH, form_name
from densedist.common.logging import quiet
from densedist.common.report.scores import flatten, in_words
from densedist.common.run_files import Weights
from densedist.common.runtimes import INT8, RUNTIMES, Runtime
from densedist.common.task import Task, metric_of_each
from densedist.common.timing import (
    MEANING,
    Latency,
    Prepare,
    in_columns,
    in_graph,
    in_threads,
    latencies,
    thread_counts,
)

RECORD = "int8.json"


@dataclass(frozen=True)
class Row:
    """A model in one form.

    Args:
        name: what runs it, in which numbers.
        size: bytes of its weights, of a runtime's file those on the disk.
        scores: in percent by metric; None = undefined. Empty where DATASETS.TEST is not scored.
        seconds: for one image, by the number of threads.
    """

    name: str
    size: int
    scores: Mapping[str, float | None]
    seconds: Mapping[int, Latency]


class Inputs(Sequence[np.ndarray]):
    """Images as inputs of a graph, read when they are needed."""

    def __init__(self, exporter: Exporter, files: Sequence[Path]) -> None:
        self._exporter, self._files = exporter, files

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, number: Any) -> Any:
        return self._exporter.read(self._files[number]).numpy()


def check_int8(formats: Sequence[str]) -> None:
    """Refuse formats of which none can be quantized.

    Raises:
        UserError: naming them.
    """
    if not {*formats} & {*RUNTIMES}:
        raise UserError(f"--int8 quantizes {' and '.join(RUNTIMES)}, but --format is {','.join(formats)}: add one")


def calibration_files(task: Task, student: Weights, count: int) -> list[Path]:
    """Return images to calibrate on: so many of DATASETS.UNLABELED, or where it is empty of TRAIN, evenly spread.

    Raises:
        UserError: there are none.
    """
    cfg = task.load_config(student.config, student.overrides, student.trusted)
    for side in ("UNLABELED", "TRAIN"):
        if files := sorted(task.images(cfg, side)):
            return [Path(file) for file in evenly(files, count)]
    raise UserError(
        "--int8: DATASETS.UNLABELED and DATASETS.TRAIN are empty: name a data set, on whose images to calibrate"
    )


def quantize_each(
    task: Task, student: Weights, exporter: Exporter, formats: Sequence[str], files: Sequence[Path], output: Path
) -> dict[str, Any]:
    """Quantize a student's exports, print a table of both and of the student in PyTorch, and write int8.json.

    Args:
        formats: that have been exported to output; the runtimes among them count.
        files: images to calibrate on.

    Returns:
        what int8.json holds.

    Raises:
        UserError: a runtime cannot quantize the model, or an image cannot be read.
    """
    inputs, chosen = Inputs(exporter, files), [RUNTIMES[name] for name in formats if name in RUNTIMES]
    cpu = student.under("MODEL.DEVICE", "cpu")
    forms: list[tuple[str, Runtime | None, Path]] = [(PYTORCH, None, Path(student.file))]
    for runtime in chosen:
        source, quantized = output / runtime.file(), output / runtime.file(INT8)
        _quantize(runtime, source, quantized, inputs)
        forms += [(form_name(runtime, ""), runtime, source), (form_name(runtime, INT8), runtime, quantized)]
    first, threads = inputs[0], thread_counts()
    with quiet():
        steps = {name: _prepared(exporter, runtime, file, first) for name, runtime, file in forms}
        seconds = latencies(steps, threads)
        rows = [
            Row(name, _size(exporter, runtime, file), _scores(task, cpu, runtime, file), seconds[name])
            for name, runtime, file in forms
        ]
    test = task.load_config(cpu.config, cpu.overrides, cpu.trusted).DATASETS.TEST
    return _report(rows, threads, len(files), first.shape, list(test), output)


def _quantize(runtime: Runtime, source: Path, quantized: Path, inputs: Inputs) -> None:
    try:
        with quiet():
            runtime.quantize(source, quantized, inputs)
            runtime.load(quantized)(inputs[0])  # OpenVINO writes graphs that it cannot run, as of a SegFormer
    except UserError:
        raise
    except Exception as error:  # theirs are many
        for part in runtime.files(quantized):
            part.unlink(missing_ok=True)
        remedy = f"leave out --int8, or {runtime.name} of --format"
        raise UserError(
            f"--int8: {runtime.title} cannot run {source} in 8 bits ({one_line(error)}): {remedy}"
        ) from error


def _prepared(exporter: Exporter, runtime: Runtime | None, file: Path, image: np.ndarray) -> Prepare:
    """Return what computes the image in a runtime, or in PyTorch where there is none."""
    if runtime is None:
        return in_threads(exporter.step(image))
    return in_graph(runtime, file, image)


def _size(exporter: Exporter, runtime: Runtime | None, file: Path) -> int:
    if runtime is not None:
        return runtime.size(file)
    return sum(x.numel() * x.element_size() for x in exporter.model.state_dict().values())


def _scores(task: Task, student: Weights, runtime: Runtime | None, file: Path) -> dict[str, float | None]:
    """Return the metric of each data set of DATASETS.TEST."""
    kind = () if runtime is None else ("MODEL.KIND", runtime.name)
    with TemporaryDirectory() as folder:
        weights = student.under("OUTPUT_DIR", folder, *kind)
        cfg = task.load_config(weights.config, weights.overrides, weights.trusted)
        if not task.is_scored(cfg):
            return {}
        found = flatten(task.evaluate(cfg, task.load_model(cfg, str(file), weights.key)))
    return {name: found.get(name) for name in metric_of_each(cfg.DATASETS.TEST, task.metric(cfg))}


def _report(
    rows: Sequence[Row], threads: Sequence[int], images: int, shape: Sequence[int], test: Sequence[str], output: Path
) -> dict:
    table = [
        {"": row.name}
        | {in_words(metric): "" if value is None else f"{value:.2f}" for metric, value in row.scores.items()}
        | {"MB": f"{row.size / 1e6:.2f}"}
        | in_columns(row.seconds)
        for row in rows
    ]
    size = "x".join(map(str, shape[-2:]))
    runs = rows[0].seconds[threads[0]].runs
    print(f"INT8: calibrated on {images} images; {MEANING} of {runs} runs on an image of {size}, by turns")
    print(tabulate(table, headers="keys", tablefmt="pipe", disable_numparse=True))
    counted = {"calibration_images": images, "image": list(shape), "test": test}
    saved = counted | {"rows": [asdict(row) for row in rows]}
    (output / RECORD).write_text(json.dumps(saved, indent=2) + "\n")
    return saved
