"""A program as a network: what was exported runs as it is, and gives class logits alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from densedist.common.errors import UserError, one_line
from densedist.seg.dense import DenseModel


@dataclass(frozen=True)
class Program:
    """A function of images that was read from a file.

    Args:
        run: (N, 3, H, W) on the device that it is given -> logits (N, K, h, w).
        digest: SHA-256 of the file.
        raw: it wants pixels of 0 to 255 as uint8, and normalizes and pads by itself.
        description: what `densedist export` wrote of it; empty = another wrote it.
    """

    run: Callable[[Tensor], Tensor]
    digest: str
    raw: bool = False
    description: Mapping[str, Any] = field(default_factory=dict)


class ProgramModel(DenseModel):
    """A program behind a normalization.

    Args:
        program: what it wants of precision and device, it says itself.
        pixel_mean, pixel_std: see DenseModel.
        stride: what height and width of its images are multiples of.
        source: what names it, for messages.
    """

    align_corners = False
    own_precision = True  # that in which it was exported

    def __init__(
        self, program: Program, pixel_mean: Sequence[float], pixel_std: Sequence[float], stride: int, source: str
    ) -> None:
        super().__init__(pixel_mean, pixel_std)
        # Not a submodule: an exported program knows no eval(), and has no weights that it shows.
        self._program, self._stride, self._source = (program,), stride, source
        self.says_pixels, self.names = program.raw, tuple(program.description.get("classes", ()))

    @property
    def divisor(self) -> int:
        return self._stride

    @property
    def identity(self) -> tuple[str, ...]:
        return (self._program[0].digest,)

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        """{"cls_logits": (N, K, h, w), float32} for a preprocessed batch (N, 3, H, W).

        Raises:
            UserError: the program fails on a batch of this size, or gives something else.
        """
        program = self._program[0]
        batch = batch.contiguous()
        images = batch.round().clamp(0, 255).to(torch.uint8) if program.raw else batch.float()
        try:
            logits = program.run(images)
        except Exception as error:  # of whoever runs it
            raise UserError(f"{self._source} fails on images {tuple(batch.shape)}: {one_line(error)}") from error
        if not isinstance(logits, Tensor) or logits.dim() != 4 or len(logits) != len(batch):
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise UserError(
                f"{self._source} gives {got} for images {tuple(batch.shape)}: want logits (N, classes, h, w)"
            )
        return {"cls_logits": logits.float()}
