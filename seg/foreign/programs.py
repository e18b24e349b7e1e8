"""The kinds of programs: torch.export, TorchScript, ONNX."""

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
from densedist.seg.foreign.exported import checked_copy
from densedist.seg.foreign.inputs import exported_images, onnx_images, script_images
from densedist.seg.foreign.model import ForeignModel

OUT = "out"  # torchvision's name of the logits, beside those of its auxiliary head


@dataclass(frozen=True)
class Program:
    """A function of images that was read from a file.

    Args:
        run: (N, 3, H, W) on the device that it is given -> logits (N, K, h, w).
        digest: SHA-256 of the file.
        dtype: of the images that it wants; uint8 = raw pixels of 0 to 255, which it normalizes by itself.
        description: what `densedist export` wrote of it; empty = another wrote it.
    """

    run: Callable[[Tensor], Tensor]
    digest: str
    dtype: torch.dtype = torch.float32
    description: Mapping[str, Any] = field(default_factory=dict)

    @property
    def raw(self) -> bool:
        return self.dtype == torch.uint8


class ProgramModel(ForeignModel):
    """A program behind a normalization.

    Args:
        program: what it wants of precision and device, it says itself.
        pixel_mean, pixel_std: see DenseModel.
        stride: what height and width of its images are multiples of.
        source: what names it, for messages.
    """

    own_precision = True  # that in which it was exported

    def __init__(
        self, program: Program, pixel_mean: Sequence[float], pixel_std: Sequence[float], stride: int, source: str
    ) -> None:
        super().__init__(pixel_mean, pixel_std)
        # Not a submodule: an exported program knows no eval(), and has no weights that it shows.
        self._program, self._stride, self._source = (program,), stride, source
        self._one_by_one = False
        classes = program.description.get("classes")
        self.channels = str(program.description.get("channels", ""))
        self.says_pixels, self.names = program.raw, tuple(map(str, classes)) if isinstance(classes, list) else ()

    @property
    def divisor(self) -> int:
        return self._stride

    @property
    def identity(self) -> tuple[str, ...]:
        return (self._program[0].digest, *super().identity)

    def takes_one(self) -> bool:
        self._one_by_one = True
        return True

    def maps(self, batch: Tensor) -> dict[str, Tensor]:
        """Return {"cls_logits": (N, K, h, w)} for a preprocessed batch (N, 3, H, W), floating-point numbers in float32.

        Raises:
            UserError: the program fails on a batch of this size, or gives no tensor.
        """
        program = self._program[0]
        batch = batch.contiguous()
        images = batch.round().clamp(0, 255).to(torch.uint8) if program.raw else batch.to(program.dtype)
        parts = images.split(1) if self._one_by_one else [images]
        try:
            found = [program.run(part) for part in parts]
        except Exception as error:  # of whoever runs it
            raise UserError(f"{self._source} fails on images {tuple(batch.shape)}: {one_line(error)}") from error
        if not isinstance(found[0], Tensor):
            raise UserError(f"{self._source} gives {type(found[0]).__name__}: want logits (N, classes, h, w)")
        logits = torch.cat(found) if len(found) > 1 else found[0]
        return {"cls_logits": logits.float() if logits.is_floating_point() else logits}


def read_program(kind: str, file: str, device: str, trust: bool, key: str) -> Program:
    """Read a program of a kind in READERS.

    Args:
        device: it will be given images there.
        trust: MODEL.TRUST_PICKLE.
        key: what names the file, for messages.

    Raises:
        UserError: no such file, or one that is not to be read.
    """
    if not Path(file).is_file():
        raise UserError(f"{key}: there is no file {file}")
    try:
        return READERS[kind](file, device, trust)
    except UserError as error:
        raise UserError(f"{key}: {file}: {error}") from error
    except Exception as error:  # theirs are many
        raise UserError(f"{key}: {file} is no {kind} that can be read here: {one_line(error)}") from error


def read_torch_export(file: str, device: str, trust: bool) -> Program:
    """Read a .pt2 of torch.export.save.

    Raises:
        UserError: it is not trusted, and holds more than operators on tensors.
    """
    extra = {DESCRIPTION: ""}
    program = torch.export.load(file if trust else checked_copy(file, DESCRIPTION), extra_files=extra)
    dtype = exported_images(program)
    module = program.module().to(device)
    description = json.loads(extra[DESCRIPTION] or "{}")
    return Program(lambda images: _first(module(images)), _digest(file), dtype, description)


def read_torchscript(file: str, device: str, trust: bool) -> Program:
    """Read a file of torch.jit.save.

    Raises:
        UserError: it is not trusted, as it may run any program.
    """
    if not trust:
        raise UserError(f"a TorchScript file can run any program that its author hid in it; {REMEDY}")
    module = torch.jit.load(file, map_location=device).eval()
    return Program(lambda images: _first(module(images)), _digest(file), script_images(module))


def read_onnx(file: str, device: str, trust: bool) -> Program:
    """Read an .onnx file, which onnxruntime runs: on a GPU where its package has the provider for it."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError("the package onnxruntime is missing: install it by pip install 'dense-dist[export]'") from error
    wanted = ["CUDAExecutionProvider"] if torch.device(device).type == "cuda" else []
    providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
    session = onnxruntime.InferenceSession(file, providers=[*providers, "CPUExecutionProvider"])
    dtype = onnx_images(session.get_inputs())
    image, outputs = session.get_inputs()[0].name, [output.name for output in session.get_outputs()]
    output = OUT if OUT in outputs else outputs[0]
    description = _parsed(session.get_modelmeta().custom_metadata_map)

    def run(images: Tensor) -> Tensor:
        (logits,) = session.run([output], {image: images.cpu().numpy()})
        return torch.from_numpy(logits).to(images.device)

    return Program(run, _digest(file), dtype, description)


READERS: Mapping[str, Callable[[str, str, bool], Program]] = {
    "torch_export": read_torch_export,
    "torchscript": read_torchscript,
    "onnx": read_onnx,
}


def _first(output: Any) -> Any:
    """Return the first of several outputs, by torchvision's habit the one under "out"."""
    if isinstance(output, Mapping):
        return output[OUT] if OUT in output else next(iter(output.values()))
    return output[0] if isinstance(output, (tuple, list)) else output


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
