"""A network as it is exported: raw images in, logits of their size out."""

from collections.abc import Callable
from copy import deepcopy

import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn
from torch.nn import functional as F

from densedist.seg.networks.network import Network


class Deployed(nn.Module):
    """Normalization, padding, network, resizing: what Segmenter.logits does, for a batch of images of one size.

    Args:
        network: its auxiliary head is not used.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.smp, self.divisor = network.smp, network.divisor
        self.register_buffer("mean", network.mean)
        self.register_buffer("std", network.std)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, classes, H, W) of raw images (N, 3, H, W), uint8."""
        height, width = images.shape[2:]
        # Written so that torch.export sees multiples of the divisor, and makes no difference between sizes: to cut
        # by a slice would be a special case where nothing is to be cut.
        tall, wide = ((side + self.divisor - 1) // self.divisor * self.divisor for side in (height, width))
        batch = F.pad((images - self.mean) / self.std, (0, wide - width, 0, tall - height))
        logits = F.interpolate(self.smp(batch), size=(tall, wide), mode="bilinear", align_corners=True)
        return F.pad(logits, (0, width - wide, 0, height - tall))


class AveragePool(nn.Module):
    """nn.AdaptiveAvgPool2d as two matrix products, which ONNX has for maps of any size; its own pooling has not.

    Args:
        size: height and width of the result.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, maps: Tensor) -> Tensor:
        """Pool (N, C, H, W) to (N, C, *size)"""
        rows, columns = (_means(full, parts, maps) for full, parts in zip(maps.shape[2:], self.size, strict=True))
        return rows @ maps @ columns.T


def _means(full: int, parts: int, like: Tensor) -> Tensor:
    """Return a matrix (parts, full): each row takes the mean over one of the parts, as PyTorch cuts them."""
    part = torch.arange(parts, device=like.device)[:, None]
    place = torch.arange(full, device=like.device)
    start, end = part * full // parts, ((part + 1) * full + parts - 1) // parts
    inside = (start <= place) & (place < end)
    return inside.to(like.dtype) / (end - start)


class SettledPadding(nn.Module):
    """A convolution of TensorFlow's padding "same" that pads what it needs where sizes are multiples of its stride.

    timm's asks for the size of each map. With sizes left open torch.export nests one such term in the other, and
    comes to no end.

    Args:
        convolution: whose parameters it has.
    """

    def __init__(self, convolution: Conv2dSame) -> None:
        super().__init__()
        self.convolution = convolution
        sides = zip(convolution.kernel_size, convolution.stride, convolution.dilation, strict=True)
        high, wide = (max((kernel - 1) * dilation + 1 - stride, 0) for kernel, stride, dilation in sides)
        self.pad = (wide // 2, wide - wide // 2, high // 2, high - high // 2)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (N, C, H, W), H and W multiples of the stride, to (N, K, H / stride, W / stride)"""
        own = self.convolution
        padded = F.pad(maps, self.pad)
        return F.conv2d(padded, own.weight, own.bias, own.stride, 0, own.dilation, own.groups)


def with_settled_padding(model: Deployed) -> Deployed:
    """Return a copy with SettledPadding: its maps are multiples of the strides, as the batch is of the divisor."""
    return _replaced(model, lambda child: SettledPadding(child) if isinstance(child, Conv2dSame) else None)


def without_adaptive_pools(model: Deployed) -> Deployed:
    """Return a copy in which AveragePool takes the place of nn.AdaptiveAvgPool2d, global pools apart."""

    def average_pool(child: nn.Module) -> nn.Module | None:
        if type(child) is not nn.AdaptiveAvgPool2d:
            return None
        size = child.output_size
        height, width = size if isinstance(size, tuple) else (size, size)
        return None if height is None or width is None or (height, width) == (1, 1) else AveragePool((height, width))

    return _replaced(model, average_pool)


def _replaced(model: Deployed, other: Callable[[nn.Module], nn.Module | None]) -> Deployed:
    """Return a copy with another module for each one that other() has one for."""
    copy = deepcopy(model)
    for module in list(copy.modules()):
        for name, child in module.named_children():
            if (new := other(child)) is not None:
                setattr(module, name, new)
    return copy
