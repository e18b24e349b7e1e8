"""Programs of a file and functions as detectors: an image in, boxes, scores and labels out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from densedist.common.errors import UserError
from densedist.common.foreign.programs import Program
from densedist.det.foreign.detector import SMALL, ForeignDetector, Found, Size

OUTPUTS = ("boxes", "scores", "labels", "classes")  # the last is what `densedist export` calls labels
WANTED = (
    "want boxes (N, 4), [x0, y0, x1, y1] in pixels of the image that it is given, scores (N) and labels (N), or scores "
    "(N, classes) alone"
)
SURE = 1.001  # above 1 only by rounding


class ProgramDetector(ForeignDetector):
    """A program or a function of one image behind a normalization.

    Args:
        names, least, most, source: see ForeignDetector.
        run: (1, 3, H, W) -> boxes, scores and labels, or boxes and the scores of all classes: by name or in this order,
            each with or without a dimension for the image; or a list of one such, as torchvision's detectors give.
        mean, std: of each channel, for pixels of 0 to 255.
        stride: what height and width of its images are multiples of; there are zeros at bottom and right.
        program: what run is of, which says the type of its images and, where it takes one, their size: images are
            stretched to it; None = a function.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        names: Sequence[str],
        least: float,
        most: int,
        source: str,
        run: Callable[[Tensor], Any],
        mean: Sequence[float],
        std: Sequence[float],
        stride: int,
        program: Program | None = None,
    ) -> None:
        super().__init__(names, least, most, source)
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)
        self.model = run if isinstance(run, torch.nn.Module) and program is None else None
        # Not a submodule: an exported program knows no eval(), and has no weights that it shows.
        self._run, self._stride, self._program = (run,), stride, program
        self.identity = {"file": program.digest if program else source}

    def find(self, images: Sequence[Tensor], sizes: Sequence[Size]) -> list[Found]:
        return [self._of_one(image, size) for image, size in zip(images, sizes, strict=True)]

    def _of_one(self, image: Tensor, size: Size) -> Found:
        pixels = image.to(self.mean.device).float()[None]
        fixed = self._program.images.size if self._program else None
        if fixed and fixed != tuple(image.shape[1:]):
            pixels = F.interpolate(pixels, size=fixed, mode="bilinear", antialias=True)
        seen = pixels.shape[2:]
        batch = (pixels - self.mean) / self.std
        if not fixed:
            batch = F.pad(batch, [0, -seen[1] % self._stride, 0, -seen[0] % self._stride])
        output = self._run[0](self._program.as_wanted(batch) if self._program else batch)
        found = self._read(output)
        height, width = (whole / part for whole, part in zip(size, seen, strict=True))
        factors = found.boxes.new_tensor([width, height, width, height])
        return replace(found, boxes=found.boxes * factors)

    def _read(self, output: Any) -> Found:
        """Return boxes, scores and labels of one image.

        Raises:
            UserError: there are none.
        """
        if isinstance(output, (list, tuple)) and len(output) == 1:
            output = output[0]
        parts: list[Any]
        if isinstance(output, Mapping):
            named = [name for name in OUTPUTS if name in output]
            parts = [output[name] for name in named] if len(named) == 3 else list(output.values())
        else:
            parts = list(output) if isinstance(output, (list, tuple)) else [output]
        shapes = ", ".join(str(tuple(x.shape)) if isinstance(x, Tensor) else type(x).__name__ for x in parts)
        other_form = UserError(f"{self.source} gives {shapes}: {WANTED}")
        dimensions = {2: (2, 2), 3: (2, 1, 1)}.get(len(parts))
        if dimensions is None or not all(isinstance(part, Tensor) for part in parts):
            raise other_form
        boxes, *others = (x[0] if x.dim() == n + 1 else x for x, n in zip(parts, dimensions, strict=True))
        of_all = others[0].float() if len(others) == 1 else None
        if of_all is not None and (of_all.dim() != 2 or of_all.shape[1] == 0):
            raise other_form
        scores, labels = others if of_all is None else of_all.max(1)
        fits = boxes.shape == (len(scores), 4) and scores.shape == labels.shape and scores.dim() == 1
        if not fits or not boxes.is_floating_point() or not scores.is_floating_point():
            raise other_form
        if labels.is_floating_point() and bool((labels != labels.round()).any()):
            raise UserError(f"{self.source} gives labels that are no whole numbers: {WANTED}")
        if len(scores) and float(scores.max()) > SURE:
            raise UserError(f"{self.source} gives a score of {float(scores.max()):.3g}: want 0 to 1")
        there = scores > 0  # where nothing is found OpenVINO gives one box, of the score 0 and no class
        logits = None if of_all is None else of_all.logit(SMALL)[there]
        return Found(boxes[there].float(), scores[there].float(), labels[there].long(), logits)
