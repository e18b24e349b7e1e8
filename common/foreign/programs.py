"""Programs of a file: torch.export, TorchScript, and what runtimes run."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from densedist.common.config.trust import REMEDY
from densedist.common.errors import UserError, one_line
from densedist.common.export import DESCRIPTION, whole_pixels
from densedist.common.foreign.exported import checked_copy
from densedist.common.foreign.inputs import Images, exported_images, graph_images, script_images
from densedist.common.nearest import did_you_mean_path
from densedist.common.runtimes import RUNTIMES, Runtime

OUT = "out"  # torchvision's name of the logits, beside those of its auxiliary head


@dataclass(frozen=True)
class Program:
    """A function of images that was read from a file.

    Args:
        run: (N, 3, H, W) on the device that it is given -> what the file gives: a tensor, several, or several by name.
        digest: SHA-256 of the file.
        images: that it wants.
        description: what `densedist export` wrote of it; empty = another wrote it.
    """

    run: Callable[[Tensor], Any]
    digest: str
    images: Images = field(default_factory=Images)
    description: Mapping[str, Any] = field(default_factory=dict)

    @property
    def raw(self) -> bool:
        return self.images.dtype == torch.uint8

    def as_wanted(self, batch: Tensor) -> Tensor:
        """Return a batch (N, 3, H, W) in the program's own type; raw pixels are rounded."""
        batch = batch.contiguous()
        return whole_pixels(batch) if self.raw else batch.to(self.images.dtype)


def read_program(kind: str, file: str, device: str, trust: bool, key: str, outputs: Sequence[str] = (OUT,)) -> Program:
    """Read a program of a kind in READERS.

    Args:
        device: it will be given images there.
        trust: MODEL.TRUST_PICKLE.
        key: what names the file, for messages.
        outputs: of a runtime, the only ones that are computed, by name; as many from the first where it has none of
            these.

    Raises:
        UserError: no such file, or one that is not to be read.
    """
    if not Path(file).is_file():
        raise UserError(f"{key}: there is no file {file}{did_you_mean_path(file)}")
    try:
        return READERS[kind](file, device, trust, outputs)
    except UserError as error:
        raise UserError(f"{key}: {file}: {error}") from error
    except Exception as error:  # theirs are many
        raise UserError(f"{key}: {file} cannot be read as {kind}: {one_line(error)}") from error


def read_torch_export(file: str, device: str, trust: bool, outputs: Sequence[str] = ()) -> Program:
    """Read a .pt2 of torch.export.save.

    Raises:
        UserError: it is not trusted, and holds more than operators on tensors.
    """
    extra = {DESCRIPTION: ""}
    program = torch.export.load(file if trust else checked_copy(file, DESCRIPTION), extra_files=extra)
    images, module = exported_images(program), program.module().to(device)
    return Program(module, _digest(file), images, json.loads(extra[DESCRIPTION] or "{}"))


def read_torchscript(file: str, device: str, trust: bool, outputs: Sequence[str] = ()) -> Program:
    """Read a file of torch.jit.save.

    Raises:
        UserError: it is not trusted, as it may run any program.
    """
    if not trust:
        raise UserError(f"a TorchScript file can run any program that its author hid in it; {REMEDY}")
    module = torch.jit.load(file, map_location=device).eval()
    return Program(module, _digest(file), script_images(module))


def read_graph(runtime: Runtime, file: str, device: str, trust: bool, outputs: Sequence[str] = ()) -> Program:
    """Read a file that a runtime runs.

    Raises:
        UserError: the runtime is not installed.
    """
    runtime.require()
    graph = runtime.load(Path(file), device=device)
    wanted = graph_images(graph.inputs)
    computed = [name for name in outputs if name in graph.outputs] or graph.outputs[: len(outputs) or None]

    def run(images: Tensor) -> dict[str, Tensor]:
        if wanted.single and len(images) > 1:
            raise ValueError("it takes one image at a time")
        batch = images[0] if wanted.single else images
        found = graph.compute(batch.cpu().numpy(), computed)
        return {name: torch.from_numpy(value).to(images.device) for name, value in zip(computed, found, strict=True)}

    return Program(run, _digest(*runtime.files(Path(file))), wanted, graph.description)


READERS: Mapping[str, Callable[[str, str, bool, Sequence[str]], Program]] = {
    "torch_export": read_torch_export,
    "torchscript": read_torchscript,
    **{name: partial(read_graph, runtime) for name, runtime in RUNTIMES.items()},
}


def _digest(*files: str | Path) -> str:
    digest = sha256()
    for file in files:
        digest.update(Path(file).read_bytes())
    return digest.hexdigest()
