"""A program as a network: what was exported runs as it is, and gives class logits alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from densedist.common.errors import UserError, one_line
from densedist.seg.foreign.model import ForeignModel


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

    def taps(self, batch: Tensor) -> dict[str, Tensor]:
        """{"cls_logits": (N, K, h, w)} for a preprocessed batch (N, 3, H, W), floating-point numbers in float32.

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
