"""What an export says of itself, whether its files give what PyTorch gives, and ONNX files."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate
from torch import Tensor

from densedist.common.errors import UserError

FORMATS = ("weights", "onnx", "torch")
ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")
OPSET = 18  # from 16 on RoIAlign is Detectron2's
DESCRIPTION = "model.json"  # its name in weights/ and within the torch format
# What the user reads of a model: input, output, classes, …
Description = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """A number from the comparison of an exported file with PyTorch, and the most that it may be, if anything."""

    name: str
    value: float
    limit: float | None = None

    @property
    def fails(self) -> bool:
        return self.limit is not None and not self.value <= self.limit  # so does NaN


def check_formats(chosen: Sequence[str]) -> list[str]:
    """The chosen formats, in the order of FORMATS.

    Raises:
        UserError: an unknown one, or one whose packages are missing.
    """
    if unknown := [name for name in chosen if name not in FORMATS]:
        raise UserError(f"--format: there is no format {unknown[0]}; want any of {','.join(FORMATS)}")
    if "onnx" in chosen:
        _check_packages()
    return [name for name in FORMATS if name in chosen]


def write_description(folder: Path, description: Description) -> None:
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")


def report(
    output: Path, description: Description, figures: Mapping[str, Sequence[Figure]], images: int
) -> dict[str, Any]:
    """Print how each format compares with PyTorch, and write it to export.json.

    Args:
        figures: those of each format.
        images: on how many images.

    Returns:
        what export.json holds; "failures" is empty where everything is as it should be.
    """
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


@contextmanager
def needing_images() -> Iterator[None]:
    """Adds to a UserError about the data set what else an export can be compared on."""
    try:
        yield
    except UserError as error:
        hint = "or name a folder of images to compare the export on with --image-folder"
        raise UserError(f"{error}; {hint}") from error


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


def describe_onnx(file: Path, description: Description) -> None:
    """Write the description to the file's metadata_props: text as it is, all else as JSON."""
    import onnx

    model = onnx.load(str(file))
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in description.items()}
    onnx.helper.set_model_props(model, texts)
    onnx.checker.check_model(model)
    onnx.save(model, str(file))


def onnx_runner(file: Path) -> Callable[[Tensor], list[Tensor]]:
    """The model in the file as a function of its one input, on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda tensor: [torch.from_numpy(array) for array in session.run(None, {name: tensor.numpy()})]
