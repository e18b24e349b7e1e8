"""A program of a file as a segmentation network."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from densedist.common.errors import UserError, one_line
from densedist.common.foreign.programs import OUT, Program
from densedist.seg.foreign.model import ForeignModel


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
        size = program.images.size if program.description else None
        if size and size != tuple(batch.shape[2:]):  # what we exported for images of one size
            batch = F.interpolate(batch, size, mode="bilinear", antialias=True)
        images = program.as_wanted(batch)
        parts = images.split(1) if self._one_by_one else [images]
        try:
            found = [_first(program.run(part)) for part in parts]
        except Exception as error:  # of whoever runs it
            raise UserError(f"{self._source} fails on images {tuple(batch.shape)}: {one_line(error)}") from error
        if not isinstance(found[0], Tensor):
            raise UserError(f"{self._source} gives {type(found[0]).__name__}: want logits (N, classes, h, w)")
        logits = torch.cat(found) if len(found) > 1 else found[0]
        return {"cls_logits": logits.float() if logits.is_floating_point() else logits}


def _first(output: Any) -> Any:
    """Return the first of several outputs, by torchvision's habit the one under "out"."""
    if isinstance(output, Mapping):
        return output[OUT] if OUT in output else next(iter(output.values()))
    return output[0] if isinstance(output, (tuple, list)) else output
