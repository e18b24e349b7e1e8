"""A detector that somebody else has built, as Detectron2 calls its own in eval mode."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn
from torchvision.ops import nms

from densedist.common.distill.classes import FAR_BELOW
from densedist.common.errors import UserError, one_line
from densedist.common.losses.checks import Activation

Size = tuple[int, int]  # height and width
TRIAL = (480, 640)  # the size of an image that it is tried on
SMALL = 1e-6  # a score is so far from 0 and 1 at least where it becomes a logit
ALIKE = 0.5  # boxes that overlap by more are of one object, as in Detectron2's own suppression
T = TypeVar("T")


@dataclass(frozen=True)
class Found:
    """What a detector finds in an image.

    Args:
        boxes: (N, 4), [x0, y0, x1, y1] in pixels of the original image.
        scores: (N,), in [0, 1].
        labels: (N,), whole numbers: the detector's own numbers of classes.
        logits: (N, K), of all of its classes, by its own numbers; with a softmax, less that of the background. None =
            it says only the score of the label.
        masks: (N, height, width) of the original image, bool; None = it finds boxes alone.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    logits: Tensor | None = None
    masks: Tensor | None = None


class ForeignDetector(nn.Module):
    """A detector of somebody else; a subclass finds boxes in images.

    Args:
        names: of its classes, by its own numbers. A name that stands there more than once, as "N/A", is no class.
        least: the score below which boxes are left out.
        most: boxes of an image at most, those of the highest scores.
        source: what names it, for messages.

    Attributes:
        names: of the classes that it predicts, by the numbers that its instances have.
        activation: of its class logits.
        sides: INPUT.MIN_SIZE_TEST and MAX_SIZE_TEST of the images that it wants.
        identity: what decides what it finds and is not in its weights, by name.
    """

    activation: Activation = "sigmoid"
    identity: Mapping[str, object] = MappingProxyType({})
    sides: tuple[int, int] = (0, 0)

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

    def find_softly(self, images: Sequence[Tensor], sizes: Sequence[Size]) -> list[Found]:
        """Find boxes with the logits of all classes, one box an object, where it has them. Takes what find takes."""
        return self.find(images, sizes)

    @torch.no_grad()
    def soft_boxes(self, images: Sequence[Tensor], sizes: Sequence[Size]) -> list[tuple[Tensor, Tensor]]:
        """Return for each image boxes (B, 4) within it and not empty, and their logits (B, K) of the named classes.

        With a softmax they are less that of the background, which has what no named class has: so a row and a 0 are its
        logits. Of boxes that overlap by more than ALIKE only the one with the highest score is there, whatever their
        classes: detectors without a suppression of their own (DETR's) have others of low scores next to it, which say
        nothing of the object. Takes what find takes.

        Raises:
            UserError: see forward.
        """
        found = self._asked(lambda: self.find_softly(images, sizes), sizes)
        return [self._softened(*pair) for pair in zip(found, sizes, strict=True)]

    @torch.no_grad()
    def forward(self, batched_inputs: Sequence[dict[str, Any]]) -> list[dict[str, Instances]]:
        """Return {"instances"} for each sample of Detectron2's mapper for tests, as its own detectors do: pred_boxes
        within the original image and not empty, scores, pred_classes, and pred_masks where it finds masks.

        Raises:
            UserError: it fails, or gives something else than boxes.
        """
        images = [sample["image"] for sample in batched_inputs]
        sizes = [
            (int(sample.get("height", image.shape[1])), int(sample.get("width", image.shape[2])))
            for sample, image in zip(batched_inputs, images, strict=True)
        ]
        found = self._asked(lambda: self.find(images, sizes), sizes)
        return [{"instances": self._instances(*pair)} for pair in zip(found, sizes, strict=True)]

    def try_out(self) -> None:
        """Let it look at an image without objects.

        Raises:
            UserError: see forward.
        """
        self([{"image": blank()}])

    def _asked(self, ask: Callable[[], T], sizes: Sequence[Size]) -> T:
        try:
            return ask()
        except UserError:
            raise
        except Exception as error:  # it is somebody's code
            raise UserError(f"{self.source} fails on images {list(sizes)}: {one_line(error)}") from error

    def _refuse_infinite(self, *values: Tensor) -> None:
        if not all(bool(x.isfinite().all()) for x in values):
            raise UserError(f"{self.source} gives boxes or scores that are not finite")

    def _softened(self, found: Found, size: Size) -> tuple[Tensor, Tensor]:
        given = self._of_labels(found) if found.logits is None else found.logits.float()
        self._refuse_infinite(found.boxes, given)
        if given.shape[1] <= max(self._numbers):
            raise UserError(f"{self.source} gives scores of {given.shape[1]} classes: no class {max(self._numbers)}")
        rest = [number for number in range(given.shape[1]) if number not in self._numbers]
        logits = given[:, list(self._numbers)]
        if self.activation == "softmax":
            logits = logits - torch.cat([given[:, rest], given.new_zeros(len(given), 1)], 1).logsumexp(1, keepdim=True)
        scores = probabilities(logits, self.activation).amax(1)
        boxes = Boxes(found.boxes.float().clone())
        boxes.clip(size)
        there = boxes.nonempty() & (scores >= self.least)
        boxes, logits, scores = boxes.tensor[there], logits[there], scores[there]
        best = nms(boxes, scores, ALIKE)[: self.most]
        return boxes[best], logits[best]

    def _of_labels(self, found: Found) -> Tensor:
        """Return logits (N, K) by which a box has the score of its label, and no other class has any."""
        columns = 1 + max([*self._numbers, *found.labels.tolist()])
        logits = torch.full((len(found.labels), columns), -FAR_BELOW, device=found.scores.device)
        return logits.scatter(1, found.labels[:, None], found.scores.float().logit(SMALL)[:, None])

    def _instances(self, found: Found, size: Size) -> Instances:
        boxes, scores = found.boxes.detach().float().cpu(), found.scores.detach().float().cpu()
        self._refuse_infinite(boxes, scores)
        classes = torch.tensor([self._numbers.get(int(n), -1) for n in found.labels], dtype=torch.int64)
        result = Instances(size, pred_boxes=Boxes(boxes.clone()), scores=scores, pred_classes=classes)
        if found.masks is not None:
            result.pred_masks = found.masks.cpu()
        result.pred_boxes.clip(size)
        result = result[(classes >= 0) & (scores >= self.least) & result.pred_boxes.nonempty()]
        if len(result) > self.most:
            result = result[result.scores.topk(self.most).indices]
        return result


def probabilities(logits: Tensor, activation: Activation) -> Tensor:
    """Return the probability of each class.

    Args:
        logits: (*, K); with a softmax, less that of the background.
    """
    if activation == "sigmoid":
        return logits.sigmoid()
    return torch.cat([logits, torch.zeros_like(logits[..., :1])], -1).softmax(-1)[..., :-1]


def blank() -> Tensor:
    """Return an image without objects, (3, *TRIAL), uint8."""
    return torch.full((3, *TRIAL), 127, dtype=torch.uint8)
