"""What a runtime does: it writes a graph in its own form, loads it, and quantizes it."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from densedist.common.errors import UserError
from densedist.common.export_names import INT8 as INT8
from densedist.common.export_names import Needs
from densedist.common.extras import first_absent, is_missing

FLOAT, CONVERSION = "float32", "conversion"
Description = Mapping[str, Any]


@dataclass(frozen=True)
class Input:
    """An input of a graph.

    Args:
        shape: None = of any size.
        dtype: NumPy's name of its type; of a type that NumPy has not, the runtime's.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True)
class Graph:
    """A graph that a runtime has loaded.

    Args:
        inputs: of the graph.
        outputs: their names.
        compute: its only input, and the names of the outputs that are wanted -> these.
        description: what `densedist export` wrote of it; empty = another wrote it.
    """

    inputs: Sequence[Input]
    outputs: Sequence[str]
    compute: Callable[[np.ndarray, Sequence[str]], list[np.ndarray]]
    description: Description = field(default_factory=dict)

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        """Return all outputs."""
        return self.compute(images, self.outputs)


@dataclass(frozen=True)
class Spent:
    """What a layer takes, as a runtime runs it.

    Args:
        kind: its operator, in the runtime's words.
        number: INT8, FLOAT, CONVERSION of one to the other or of the layout, or "" = of sizes and indices, which are
            whole in any case.
        seconds: for an image, in one thread.
    """

    kind: str
    number: str
    seconds: float


class Runtime(ABC):
    """A runtime on the CPU.

    Attributes:
        name: of its format.
        suffix: of its files.
        title: its name in words.
        needs: the packages that load a graph, and those that quantize() needs besides.
    """

    name: str
    suffix: str
    title: str
    needs: Needs

    @abstractmethod
    def write(self, onnx: Path, file: Path, description: Description) -> None:
        """Write the graph of an ONNX file in this runtime's form, with a description in it."""

    @abstractmethod
    def load(self, file: Path, threads: int = 0, device: str = "cpu") -> Graph:
        """Load a graph.

        Args:
            threads: that it computes in; 0 = as many as the runtime likes.
            device: of PyTorch; a GPU is used where the runtime has this kind of GPU.
        """

    @abstractmethod
    def describe(self, file: Path) -> Description:
        """Return what write() wrote of the graph in a file, without loading it; empty of another's file."""

    @abstractmethod
    def quantize(self, file: Path, quantized: Path, images: Sequence[np.ndarray]) -> None:
        """Write a graph of write() again with the weights and activations of its trunk (trunk.py) in 8 bits.

        Args:
            images: inputs, by which the ranges of activations are calibrated.
        """

    @abstractmethod
    def spent(self, file: Path, image: np.ndarray, runs: int = 5) -> list[Spent]:
        """Measure what each layer of a graph takes for an image, in one thread, by the runtime's own clock.

        Args:
            runs: of which the mean counts, after one to warm up.
        """

    def file(self, precision: str = "") -> str:
        """Return the name of a graph's file in the folder of an export; of one in another precision than float32."""
        return ".".join(filter(None, ["model", precision])) + self.suffix

    def files(self, file: Path) -> list[Path]:
        """Return all files of a graph, the one that names it first."""
        return [file]

    def size(self, file: Path) -> int:
        """Return the bytes of a graph on the disk."""
        return sum(part.stat().st_size for part in self.files(file))

    def is_installed(self) -> bool:
        """Return whether the packages that load a graph are there."""
        return not first_absent(self.needs.packages)

    def require(self, source: str = "") -> None:
        """Refuse to go on without the packages that load a graph.

        Args:
            source: begins the message.

        Raises:
            UserError: naming the package, and how it is installed.
        """
        if package := first_absent(self.needs.packages):
            raise UserError(f"{source}{is_missing(package, self.needs.extra)}")


def as_texts(description: Description) -> dict[str, str]:
    """Return a description as a file's metadata: text as it is, all else as JSON."""
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in description.items()}


def from_texts(texts: Mapping[str, str]) -> dict[str, Any]:
    """Undo as_texts."""
    result: dict[str, Any] = {}
    for name, text in texts.items():
        try:
            result[name] = json.loads(text)
        except ValueError:
            result[name] = text
    return result
