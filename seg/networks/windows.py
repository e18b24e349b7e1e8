"""From a model of crops to the class probabilities of an image: window, scales, mirror image."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from detectron2.config import CfgNode
from torch import Tensor
from torch.nn import functional as F

from densedist.common.data.flip_pairs import mirrored_classes

# raw image (3, H, W) -> logits (K, H, W), on the same device; of several images of one size (N, K, H, W)
Logits = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Inference:
    """Mean class probabilities over scales and mirror image, each seen whole or through a sliding window.

    Args:
        scales: factors above 0 by which the image is resized.
        flip: also the mirror image.
        window: height and width of the window; None = the whole image at once.
        overlap: part of a window, in [0, 1), that neighbors share at least.
        mirrored_classes: for each class what its mirror image shows; None = itself.
    """

    scales: Sequence[float] = (1.0,)
    flip: bool = False
    window: tuple[int, int] | None = None
    overlap: float = 0.5
    mirrored_classes: Sequence[int] | None = None

    @classmethod
    def of(cls, cfg: CfgNode) -> "Inference":
        """Return the inference of TEST.*."""
        node = cfg.TEST
        window = (node.WINDOW_SIZE[0], node.WINDOW_SIZE[1]) if node.WINDOW_SIZE else None
        mirrored = mirrored_classes(cfg.INPUT.FLIP_PAIRS, [str(entry["name"]) for entry in cfg.DATASETS.CLASSES])
        return cls(tuple(node.SCALES), node.FLIP, window, node.WINDOW_OVERLAP, mirrored)

    def __call__(self, logits: Logits, image: Tensor) -> Tensor:
        """Return probabilities (K, H, W), each in [0, 1], of a raw image (3, H, W) of 0 to 255, on its device.

        Of several images of one size, (N, 3, H, W), they are (N, K, H, W), here and below.
        """
        first, *others = [(scale, flip) for scale in self.scales for flip in ((False, True) if self.flip else (False,))]
        # Added up one by one: of a large image the probabilities of all views would not fit into memory.
        total = self._view(logits, image, *first)
        for view in others:
            total += self._view(logits, image, *view)
        return total.div_(1 + len(others))

    def rows(self, logits: Logits, image: Tensor) -> Iterator[Tensor]:
        """Yield these from top to bottom, as (K, n, W) each: those of a large image would not fit into memory.

        Through a window at the image's own size they come a row of windows at a time; else all at once.
        """
        if self.window is None or tuple(self.scales) != (1.0,):
            yield self(logits, image)
            return
        views = [self._rows(logits, image), *([self._rows(logits, image.flip(-1))] if self.flip else [])]
        for plain, *mirrored in zip(*views, strict=True):
            total = plain
            for seen in mirrored:
                total += self._turned_back(seen)
            yield total.div_(len(views))

    def _view(self, logits: Logits, image: Tensor, scale: float, flip: bool) -> Tensor:
        """Return probabilities of the image at that scale, and mirrored there, brought back to its size."""
        size, scaled = image.shape[-2:], image
        if scale != 1:
            smaller = [max(round(length * scale), 1) for length in size]
            scaled = _resize(image.float(), smaller, antialias=scale < 1)
        seen = _resize(self._seen(logits, scaled.flip(-1) if flip else scaled), size)
        return self._turned_back(seen) if flip else seen

    def _turned_back(self, mirrored: Tensor) -> Tensor:
        """Return probabilities (K, H, W) of an image, given those of its mirror image."""
        if self.mirrored_classes is not None:
            mirrored = mirrored[..., list(self.mirrored_classes), :, :]
        return mirrored.flip(-1)

    def _seen(self, logits: Logits, image: Tensor) -> Tensor:
        """Return probabilities of an image, as a whole or as the mean over the windows that see a pixel."""
        if self.window is None:
            return logits(image).softmax(-3)
        total, start = None, 0
        for rows in self._rows(logits, image):
            if total is None:
                total = rows.new_empty(*rows.shape[:-2], *image.shape[-2:])
            total[..., start : start + rows.shape[-2], :] = rows
            start += rows.shape[-2]
        assert total is not None
        return total

    def _rows(self, logits: Logits, image: Tensor) -> Iterator[Tensor]:
        """Yield the mean over the windows that see a pixel: the rows that no window further down sees, (K, n, W)."""
        assert self.window is not None
        height, width = (min(w, full) for w, full in zip(self.window, image.shape[-2:], strict=True))
        starts = _starts(image.shape[-2], height, self.overlap)
        total, seen = None, torch.zeros(height, image.shape[-1], device=image.device)
        for y, below in zip(starts, [*starts[1:], image.shape[-2]], strict=True):
            for x in _starts(image.shape[-1], width, self.overlap):
                probabilities = logits(image[..., y : y + height, x : x + width]).softmax(-3)
                if total is None:
                    total = probabilities.new_zeros(*probabilities.shape[:-2], *seen.shape)
                total[..., x : x + width] += probabilities
                seen[:, x : x + width] += 1
            assert total is not None
            done = below - y
            yield total[..., :done, :] / seen[:done]
            # What the next windows see, too, moves up.
            for sums in (total, seen):
                rest = sums[..., done:, :].clone()
                sums[..., : height - done, :] = rest
                sums[..., height - done :, :] = 0


def at_own_size(logits: Logits, batch: Tensor, size: tuple[int, int]) -> Tensor:
    """Return logits (N, K, h, w) of a batch (N, 3, H, W), of a network that takes images of one size alone.

    The batch is resized until it covers that size. What is then longer is seen through as few windows as cover it,
    evenly spaced, as EoMT's processor splits an image; where they overlap the mean of the probabilities counts.

    Args:
        logits: the network's, for images of the size, at any resolution.
        size: height and width.
    """
    scale = max(own / side for own, side in zip(size, batch.shape[2:], strict=True))
    whole = [max(round(side * scale), own) for own, side in zip(size, batch.shape[2:], strict=True)]
    seen = _resize(batch.float(), whole, antialias=scale < 1).to(batch.dtype)
    first = logits(seen[..., : size[0], : size[1]])
    if tuple(whole) == tuple(size):
        return first
    cells = first.shape[2:]
    full = [round(side * cell / own) for side, cell, own in zip(whole, cells, size, strict=True)]
    total = torch.zeros(*first.shape[:2], *full, device=first.device)
    times = torch.zeros(*full, device=first.device)
    for y, x in product(*(_starts(side, cell, 0.0) for side, cell in zip(full, cells, strict=True))):
        top, left = (
            min(round(start * own / cell), side - own)
            for start, own, cell, side in zip((y, x), size, cells, whole, strict=True)
        )
        part = logits(seen[..., top : top + size[0], left : left + size[1]]) if y or x else first
        total[..., y : y + cells[0], x : x + cells[1]] += part.float().softmax(1)
        times[y : y + cells[0], x : x + cells[1]] += 1
    return (total / times).clamp(min=torch.finfo(torch.float32).tiny).log().to(first.dtype)


def _starts(full: int, window: int, overlap: float) -> list[int]:
    """Return where windows begin, evenly spaced, so that they cover 0 to full."""
    step = max(int(window * (1 - overlap)), 1)
    count = -(-(full - window) // step) + 1
    return [round(i * (full - window) / max(count - 1, 1)) for i in range(count)]


def _resize(x: Tensor, size: Sequence[int], antialias: bool = False) -> Tensor:
    if x.shape[-2:] == torch.Size(size):
        return x
    several = x if x.ndim == 4 else x[None]
    resized = F.interpolate(several, size=tuple(size), mode="bilinear", align_corners=False, antialias=antialias)
    return resized if x.ndim == 4 else resized[0]
