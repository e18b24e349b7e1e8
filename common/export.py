"""Exports of trained models: each format is written, described, and compared with PyTorch."""

import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from detectron2.config import CfgNode
from tabulate import tabulate
from torch import Tensor, nn
from torch.nn import functional as F

from densedist.common.data.headers import Size
from densedist.common.errors import UserError, one_line
from densedist.common.export_names import FORMATS, TORCH, WEIGHTS, refuse_missing_packages, refuse_unknown
from densedist.common.logging import quiet
from densedist.common.runtimes import INT8, RUNTIMES, Graph, Runtime, fix_input
from densedist.common.shell import command

OPSET = 18  # from 16 on RoIAlign is Detectron2's
PROGRAMS = ("model.pt2", "model.ts")  # PyTorch's, of segmentation and of detection
DESCRIPTION = "model.json"  # its name in weights/ and within the torch format
CARD = "README.md"  # in weights/: the description, for people
Description = dict[str, Any]  # what the user reads of a model: input, output, classes, …
# What a description says of normalization.
INSIDE = "inside the model: give raw pixels"
OUTSIDE = "outside the model: give (pixel - pixel_mean) / pixel_std"
Run = TypeVar("Run")


@dataclass(frozen=True)
class Figure:
    """A number from the comparison of an export with PyTorch, and the most that it may be; None = anything."""

    name: str
    value: float
    limit: float | None = None

    @property
    def fails(self) -> bool:
        return self.limit is not None and not self.value <= self.limit  # so does NaN


@dataclass(frozen=True)
class Compared:
    """The images on which exports are compared with PyTorch.

    Args:
        files: of the images.
        there: how many images the source has.
        source: the names of the data sets, or the folder.
        seen: at which size the models see each image.
    """

    files: Sequence[Path]
    there: int
    source: str
    seen: str

    def __str__(self) -> str:
        more = " (more by --images N)" if len(self.files) < self.there else ""
        return f"{len(self.files)} of {self.there} images of {self.source}{more}, {self.seen}"


class Exporter(ABC, Generic[Run]):
    """A trained model that is exported, as its task says it: its inputs, its outputs, how it is written and compared.

    Attributes:
        model: what is exported.
        about: what is the same in every format; see describe().
        graph: what a runtime's file says of the model.
        compared: on which images.
        shape: of the only input that a graph is to take; None = of any size.
    """

    model: nn.Module
    about: Description
    graph: Description
    compared: Compared
    shape: Sequence[int] | None = None

    @abstractmethod
    def write_weights(self, output: Path) -> Run:
        """Write weights/ for the stock library, and return what runs them."""

    @abstractmethod
    def write_torch(self, output: Path) -> Run:
        """Write PyTorch's program, and return what runs it."""

    @abstractmethod
    def write_onnx(self, file: Path) -> None:
        """Write the graph from which all runtimes have theirs.

        Raises:
            UserError: PyTorch cannot.
        """

    @abstractmethod
    def running(self, graph: Graph) -> Run:
        """Return what runs a graph."""

    @abstractmethod
    def compare(self, run: Run) -> Sequence[Figure]:
        """Compare what an export gives for images with what the model itself gives."""

    @abstractmethod
    def read(self, file: Path) -> Tensor:
        """Read an image as the input of a graph, uint8.

        Raises:
            UserError: it cannot be read.
        """

    @abstractmethod
    def step(self, pixels: np.ndarray) -> Callable[[], object]:
        """Return what runs the model itself on an input of a graph."""


def check_formats(chosen: Sequence[str], int8: bool = False) -> list[str]:
    """Return the chosen formats, in the order of FORMATS.

    Args:
        int8: also in 8 bits, of those that can be.

    Raises:
        UserError: an unknown one; or packages are missing, and the one extra that installs all that is needed is named.
    """
    refuse_unknown(chosen)
    refuse_missing_packages(chosen, int8)
    return [name for name in FORMATS if name in chosen]


def export_each(formats: Sequence[str], exporter: Exporter, output: Path) -> dict[str, Any]:
    """Write a model in each format, compare it with PyTorch, print how well they agree, and write export.json.

    Args:
        formats: any of FORMATS.

    Returns:
        what export.json holds; "failures" is empty where everything is as it should be.
    """
    output.mkdir(parents=True, exist_ok=True)
    figures: dict[str, Sequence[Figure]] = {}
    with TemporaryDirectory() as folder, quiet():
        onnx = Path(folder) / "model.onnx"  # the source of each runtime's file
        for name in formats:
            print(f"{name}: writing, and comparing with PyTorch …", file=sys.stderr)
            if name == WEIGHTS:
                run = exporter.write_weights(output)
            elif name == TORCH:
                run = exporter.write_torch(output)
            else:
                if not onnx.exists():
                    exporter.write_onnx(onnx)
                    if exporter.shape:
                        fix_input(onnx, exporter.shape)
                run = exporter.running(_in_runtime(RUNTIMES[name], onnx, exporter.graph, output))
            figures[name] = exporter.compare(run)
    return _report(output, exporter.about, figures, exporter.compared)


def _in_runtime(runtime: Runtime, onnx: Path, description: Description, output: Path) -> Graph:
    file = output / runtime.file()
    try:
        runtime.write(onnx, file, description)
        return runtime.load(file)
    except Exception as error:  # theirs are many
        raise UserError(f"--format {runtime.name}: {runtime.title} cannot run this model: {one_line(error)}") from error


def written(output: Path, formats: Sequence[str], int8: bool) -> list[str]:
    """Return the names of what an export has written to its folder.

    Args:
        int8: also in 8 bits.
    """
    graphs = [RUNTIMES[name] for name in formats if name in RUNTIMES]
    precisions = ["", INT8] if int8 else [""]
    files = [file for graph in graphs for kind in precisions for file in graph.files(output / graph.file(kind))]
    programs = [output / name for name in PROGRAMS if TORCH in formats and (output / name).is_file()]
    records = ["export.json", *(["int8.json"] if int8 else [])]
    folder = [f"{WEIGHTS}/"] if WEIGHTS in formats else []
    return [*folder, *(file.name for file in (*files, *programs)), *records]


def next_line(output: Path, formats: Sequence[str], compared: Compared) -> str:
    """Return the line that says how to look at an export: by a graph, or by the card of its weights; "" for neither."""
    for name in formats:
        if name in RUNTIMES:
            words = "--weights", str(output / RUNTIMES[name].file()), str(compared.files[0])
            return f"next     {command('predict', *words)}"
    return f"next     {output / WEIGHTS / CARD} says how to load the weights" if WEIGHTS in formats else ""


def describe(task: str, architecture: str, classes: Sequence[str], cfg: CfgNode) -> Description:
    """Describe what is the same in every format of an export."""
    return {
        "task": task,
        "architecture": architecture,
        "classes": list(classes),
        "channels": cfg.INPUT.FORMAT,
        "pixel_range": [0, 255],
        "pixel_mean": list(cfg.MODEL.PIXEL_MEAN),
        "pixel_std": list(cfg.MODEL.PIXEL_STD),
    }


def write_description(folder: Path, description: Description) -> None:
    """Write model.json to the folder of an export."""
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")


def stretched(image: Tensor, size: Size | None) -> Tensor:
    """Return an image (3, H, W), uint8, at another height and width; None = as it is."""
    if size is None or tuple(image.shape[1:]) == size:
        return image
    return F.interpolate(image[None], size, mode="bilinear", antialias=True)[0]


def whole_pixels(images: Tensor) -> Tensor:
    """Return images as programs take them that want raw pixels, uint8: what resizing left between is rounded."""
    return images if images.dtype == torch.uint8 else images.round().clamp(0, 255).to(torch.uint8)


def in_words(size: Size) -> str:
    """Say how the images are seen where graphs take one size alone."""
    return f"each stretched to {size[0]}x{size[1]} pixels (--size)"


@contextmanager
def needing_images() -> Iterator[None]:
    """Add to a UserError about the data set in the block what else an export can be compared on."""
    try:
        yield
    except UserError as error:
        hint = "or name a folder of images to compare the export on with --image-folder"
        raise UserError(f"{error}; {hint}") from error


def _report(
    output: Path, description: Description, figures: Mapping[str, Sequence[Figure]], on: Compared
) -> dict[str, Any]:
    failures = [
        f"{name}: {figure.name} is {figure.value:.3g}, more than {figure.limit:g}"
        for name, all_figures in figures.items()
        for figure in all_figures
        if figure.fails
    ]
    rows = [
        [
            name,
            f.name,
            f"{f.value:.6g}",
            "" if f.limit is None else f"{f.limit:g}",
            "" if f.limit is None else "no" if f.fails else "yes",
        ]
        for name, all_figures in figures.items()
        for f in all_figures
    ]
    print(f"{output}: compared with PyTorch on {on}")
    headers = ["format", "measured", "value", "limit", "within the limit"]
    print(tabulate(rows, headers, tablefmt="pipe", disable_numparse=True))
    compared = {name: [asdict(figure) for figure in all_figures] for name, all_figures in figures.items()}
    images = {"images": len(on.files), "compared_on": str(on)}
    saved = {"model": description, **images, "verification": compared, "failures": failures}
    (output / "export.json").write_text(json.dumps(saved, indent=2) + "\n")
    return saved
