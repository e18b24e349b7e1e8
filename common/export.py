"""Exports of trained models: each format is written, described, and compared with PyTorch; ONNX files."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import torch
from detectron2.config import CfgNode
from tabulate import tabulate
from torch import Tensor

from densedist.common.errors import UserError
from densedist.common.logging import quiet

FORMATS = ("weights", "onnx", "torch")
ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")
OPSET = 18  # from 16 on RoIAlign is Detectron2's
DESCRIPTION = "model.json"  # its name in weights/ and within the torch format
Description = dict[str, Any]  # what the user reads of a model: input, output, classes, …
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


def check_formats(chosen: Sequence[str]) -> list[str]:
    """Return the chosen formats, in the order of FORMATS.

    Raises:
        UserError: an unknown one, or one whose packages are missing.
    """
    if unknown := [name for name in chosen if name not in FORMATS]:
        raise UserError(f"--format: there is no format {unknown[0]}; want any of {','.join(FORMATS)}")
    if "onnx" in chosen:
        _check_packages()
    return [name for name in FORMATS if name in chosen]


def export_each(
    formats: Sequence[str],
    write: Callable[[str], Run],
    compare: Callable[[Run], Sequence[Figure]],
    description: Description,
    output: Path,
    images: int,
) -> dict[str, Any]:
    """Write a model in each format, compare it with PyTorch, print how well they agree, and write export.json.

    Args:
        formats: any of FORMATS.
        write: writes a format to output, and gives what runs the files.
        compare: compares that with PyTorch.
        images: how many it compares on.

    Returns:
        what export.json holds; "failures" is empty where everything is as it should be.
    """
    output.mkdir(parents=True, exist_ok=True)
    figures: dict[str, Sequence[Figure]] = {}
    for name in formats:
        with quiet():
            figures[name] = compare(write(name))
    return _report(output, description, figures, images)


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


@contextmanager
def needing_images() -> Iterator[None]:
    """Add to a UserError about the data set in the block what else an export can be compared on."""
    try:
        yield
    except UserError as error:
        hint = "or name a folder of images to compare the export on with --image-folder"
        raise UserError(f"{error}; {hint}") from error


def describe_onnx(file: Path, description: Description) -> None:
    """Write the description to the file's metadata_props: text as it is, all else as JSON."""
    import onnx

    model = onnx.load(str(file))
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in description.items()}
    onnx.helper.set_model_props(model, texts)
    onnx.checker.check_model(model)
    onnx.save(model, str(file))


def onnx_runner(file: Path) -> Callable[[Tensor], list[Tensor]]:
    """Load the model in a file as a function of its one input, on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda tensor: [torch.from_numpy(array) for array in session.run(None, {name: tensor.numpy()})]


def _report(
    output: Path, description: Description, figures: Mapping[str, Sequence[Figure]], images: int
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
    print(f"{output}: compared with PyTorch on {images} images")
    headers = ["format", "figure", "value", "at most", "kept"]
    print(tabulate(rows, headers, tablefmt="pipe", disable_numparse=True))
    compared = {name: [asdict(figure) for figure in all_figures] for name, all_figures in figures.items()}
    saved = {"model": description, "images": images, "verification": compared, "failures": failures}
    (output / "export.json").write_text(json.dumps(saved, indent=2) + "\n")
    return saved


def _check_packages() -> None:
    """Make sure that ONNX files can be written and run.

    Raises:
        UserError: a package is missing.
    """
    for name in ONNX_PACKAGES:
        try:
            import_module(name)
        except ImportError as error:
            raise UserError(
                f"--format onnx: the package {name} is missing: install it by pip install 'dense-dist[export]', "
                "or leave out onnx"
            ) from error
