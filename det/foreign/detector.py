"""A detector that somebody else has built, as Detectron2 calls its own in eval mode."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

from densedist.common.errors import UserError, one_line

Size = tuple[int, int]  # height and width
TRIAL = (480, 640)  # the size of an image that it is tried on


@dataclass(frozen=True)
class Found:
    """What a detector finds in an image.

    Args:
        boxes: (N, 4), [x0, y0, x1, y1] in pixels of the original image.
        scores: (N,), in [0, 1].
        labels: (N,), whole numbers: the detector's own numbers of classes.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


class ForeignDetector(nn.Module):
    """A detector of somebody else; a subclass finds boxes in images.

    Args:
        names: of its classes, by its own numbers. A name that stands there more than once, as "N/A", is no class.
        least: the score below which boxes are left out.
        most: boxes of an image at most, those of the highest scores.
        source: what names it, for messages.

    Attributes:
        names: of the classes that it predicts, by the numbers that its instances have.
    """

    def __init__(self, names: Sequence[str], least: float, most: int, source: str) -> None:
        super().__init__()
        known = [number for number, name in enumerate(names) if list(names).count(name) == 1]
        self.names = tuple(names[number] for number in known)
        self.least, self.most, self.source = least, most, source
        self._numbers = {number: ours for ours, number in enumerate(known)}

    def find(self, images: Sequence[Tensor], sizes: Sequence[Size]) -> list[Found]:
        """Find boxes in images.

        Args:
            images: (3, H, W) each, uint8, in the channel order of INPUT.FORMAT.
            sizes: of the original images, in whose pixels boxes are.
        """
        raise NotImplementedError

    @torch.no_grad()
    def forward(self, batched_inputs: Sequence[dict[str, Any]]) -> list[dict[str, Instances]]:
        """Return {"instances"} for each sample of Detectron2's mapper for tests, as its own detectors do: pred_boxes
        within the original image and not empty, scores, pred_classes.

        Raises:
            UserError: it fails, or gives something else than boxes.
        """
        images = [sample["image"] for sample in batched_inputs]
        sizes = [
            (int(sample.get("height", image.shape[1])), int(sample.get("width", image.shape[2])))
            for sample, image in zip(batched_inputs, images, strict=True)
        ]
        try:
            found = self.find(images, sizes)
        except UserError:
            raise
        except Exception as error:  # it is somebody's code
            raise UserError(f"{self.source} fails on images {sizes}: {one_line(error)}") from error
        return [{"instances": self._instances(*pair)} for pair in zip(found, sizes, strict=True)]

    def try_out(self) -> None:
        """Let it look at an image without objects.

        Raises:
            UserError: see forward.
        """
        self([{"image": torch.full((3, *TRIAL), 127, dtype=torch.uint8)}])

    def _instances(self, found: Found, size: Size) -> Instances:
        boxes, scores = found.boxes.detach().float().cpu(), found.scores.detach().float().cpu()
        if not bool(boxes.isfinite().all() and scores.isfinite().all()):
            raise UserError(f"{self.source} gives boxes or scores that are not finite")
        classes = torch.tensor([self._numbers.get(int(n), -1) for n in found.labels], dtype=torch.int64)
        result = Instances(size, pred_boxes=Boxes(boxes.clone()), scores=scores, pred_classes=classes)
        result.pred_boxes.clip(size)
        result = result[(classes >= 0) & (scores >= self.least) & result.pred_boxes.nonempty()]
        if len(result) > self.most:
            result = result[result.scores.topk(self.most).indices]
        return result
