"""Programs of a file: torch.export, TorchScript, ONNX."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import file_digest
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from densedist.common.config.trust import REMEDY
from densedist.common.errors import UserError, one_line
from densedist.common.export import DESCRIPTION
from densedist.common.foreign.exported import checked_copy
from densedist.common.foreign.inputs import Images, exported_images, onnx_images, script_images
from densedist.common.nearest import did_you_mean_path

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
        return batch.round().clamp(0, 255).to(torch.uint8) if self.raw else batch.to(self.images.dtype)


def read_program(kind: str, file: str, device: str, trust: bool, key: str, outputs: Sequence[str] = (OUT,)) -> Program:
    """Read a program of a kind in READERS.

    Args:
        device: it will be given images there.
        trust: MODEL.TRUST_PICKLE.
        key: what names the file, for messages.
        outputs: of ONNX, the only ones that are computed, by name; as many from the first where it has none of these.

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


def read_onnx(file: str, device: str, trust: bool, outputs: Sequence[str] = ()) -> Program:
    """Read an .onnx file, which onnxruntime runs: on a GPU where its package has the provider for it."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError("the package onnxruntime is missing: install it by pip install 'dense-dist[export]'") from error
    wanted = ["CUDAExecutionProvider"] if torch.device(device).type == "cuda" else []
    providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
    session = onnxruntime.InferenceSession(file, providers=[*providers, "CPUExecutionProvider"])
    wanted_images = onnx_images(session.get_inputs())
    image, there = session.get_inputs()[0].name, [output.name for output in session.get_outputs()]
    computed = [name for name in outputs if name in there] or there[: len(outputs) or None]

    def run(images: Tensor) -> dict[str, Tensor]:
        found = session.run(computed, {image: images.cpu().numpy()})
        return {name: torch.from_numpy(value).to(images.device) for name, value in zip(computed, found, strict=True)}

    return Program(run, _digest(file), wanted_images, _parsed(session.get_modelmeta().custom_metadata_map))


READERS: Mapping[str, Callable[[str, str, bool, Sequence[str]], Program]] = {
    "torch_export": read_torch_export,
    "torchscript": read_torchscript,
    "onnx": read_onnx,
}


def _parsed(texts: Mapping[str, str]) -> dict[str, Any]:
    """Undo common.export.describe_onnx."""
    result: dict[str, Any] = {}
    for name, text in texts.items():
        try:
            result[name] = json.loads(text)
        except ValueError:
            result[name] = text
    return result


def _digest(file: str) -> str:
    with Path(file).open("rb") as opened:
        return file_digest(opened, "sha256").hexdigest()
