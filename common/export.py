"""What an export says of itself, and whether its files give what PyTorch gives."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from densedist.common.errors import UserError

FORMATS = ("weights", "onnx", "torch")
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


def parse_formats(text: str) -> list[str]:
    """The formats of a list joined by commas, in the order of FORMATS.

    Raises:
        UserError: an unknown one.
    """
    chosen = text.split(",")
    if unknown := [name for name in chosen if name not in FORMATS]:
        raise UserError(f"--format: there is no format {unknown[0]}; want any of {','.join(FORMATS)}")
    return [name for name in FORMATS if name in chosen]


def write_description(folder: Path, description: Description) -> None:
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")


def report(output: Path, description: Description, figures: Mapping[str, Sequence[Figure]], images: int) -> list[str]:
    """Print how each format compares with PyTorch, and write it to export.json.

    Args:
        figures: those of each format.
        images: on how many images.

    Returns:
        what fails, in words; empty where everything is as it should be.
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
    return failures


@contextmanager
def needing_images() -> Iterator[None]:
    """Adds to a UserError about the data set what else an export can be compared on."""
    try:
        yield
    except UserError as error:
        hint = "or name a folder of images to compare the export on with --image-folder"
        raise UserError(f"{error}; {hint}") from error


def one_line(error: Exception) -> str:
    """The kind of the error and its beginning."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
