"""What every segmentation network is here, whoever built it: raw images in, maps by name out."""

from collections.abc import Sequence

import torch
from detectron2.structures import ImageList
from torch import Tensor, nn

from densedist.common.distill.speed import Part

SMP = "smp"  # MODEL.KIND of a network that SMP builds
LOGITS = ("cls_logits", "aux_logits")  # the names of the maps that are class logits


class DenseModel(nn.Module):
    """A network behind its own normalization; a subclass gives maps (N, C, h, w) by name for a normalized batch.

    Args:
        pixel_mean, pixel_std: of each channel, for pixels of 0 to 255.
    """

    mean: Tensor
    std: Tensor
    # Whether corner cells of its maps lie on corner pixels (SMP), or cells in the middle of equal parts of the image.
    align_corners = True
    own_precision = False  # whether it keeps the one that it has
    feature_channels: int | None = None  # of "features"; None = it gives none
    gives_aux = False  # "aux_logits"
    says_pixels = False  # whether its file says mean, deviation and stride, so that no key does
    class_count = 0  # of its logits, once they have been seen
    names: tuple[str, ...] = ()  # of its classes, where it knows them itself

    def __init__(self, pixel_mean: Sequence[float], pixel_std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(pixel_mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(pixel_std).view(-1, 1, 1), persistent=False)

    @property
    def divisor(self) -> int:
        """Return what height and width of a batch are multiples of."""
        raise NotImplementedError

    @property
    def parts(self) -> list[Part]:
        """Return what may be compiled; nothing where that is not known."""
        return []

    @property
    def identity(self) -> tuple[str, ...]:
        """Return what tells apart two networks of the same weights: a scale, classes, the hash of a program's file."""
        return ()

    def padded_size(self, images: Sequence[Tensor]) -> tuple[int, int]:
        """Return height and width of the batch that preprocess() makes of images (3, H, W)."""
        height, width = (max(image.shape[axis] for image in images) for axis in (1, 2))
        return -(-height // self.divisor) * self.divisor, -(-width // self.divisor) * self.divisor

    def preprocess(self, images: Sequence[Tensor]) -> Tensor:
        """Normalize raw images (3, H, W), 0 to 255, and pad them with 0, bottom and right, to one batch.

        Height and width of the batch are those of the largest image, made multiples of the divisor.
        """
        normalized = [(image.to(self.mean.device) - self.mean) / self.std for image in images]
        batch = ImageList.from_tensors(normalized, self.divisor).tensor
        return batch.contiguous(memory_format=torch.channels_last)
