"""A network as it is exported: raw images in, logits of their size out."""

from copy import deepcopy

import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn
from torch.nn import functional as F

from densedist.seg.network import Network


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
        """Logits (N, classes, H, W) of raw images (N, 3, H, W), uint8."""
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
        """(N, C, H, W) -> (N, C, *size)"""
        rows, columns = (_means(full, parts, maps) for full, parts in zip(maps.shape[2:], self.size, strict=True))
        return rows @ maps @ columns.T


def _means(full: int, parts: int, like: Tensor) -> Tensor:
    """(parts, full): each row takes the mean over one of the parts, as PyTorch cuts them."""
    part = torch.arange(parts, device=like.device)[:, None]
    place = torch.arange(full, device=like.device)
    start, end = part * full // parts, ((part + 1) * full + parts - 1) // parts
    inside = (start <= place) & (place < end)
    return inside.to(like.dtype) / (end - start)


def with_settled_padding(model: Deployed) -> Deployed:
    """A copy whose convolutions of padding "same", as TensorFlow has it, pad what they need at the sizes of Deployed.

    Such a convolution asks for the size of each map. With sizes left open torch.export nests one such term in the
    other, and comes to no end. Here all sizes are multiples of the strides, so what is padded is always the same.
    """
    copy = deepcopy(model)
    for module in list(copy.modules()):
        for name, child in module.named_children():
            if isinstance(child, Conv2dSame):
                kernels = zip(child.kernel_size, child.stride, child.dilation, strict=True)
                high, wide = (max((kernel - 1) * dilation + 1 - stride, 0) for kernel, stride, dilation in kernels)
                pad = nn.ZeroPad2d((wide // 2, wide - wide // 2, high // 2, high - high // 2))
                setattr(module, name, nn.Sequential(pad, _unpadded(child)))
    return copy


def _unpadded(convolution: nn.Conv2d) -> nn.Conv2d:
    """A plain one with the same parameters."""
    sizes = convolution.in_channels, convolution.out_channels, convolution.kernel_size, convolution.stride
    plain = nn.Conv2d(*sizes, dilation=convolution.dilation, groups=convolution.groups, device="meta")  # type: ignore[arg-type]
    plain.weight, plain.bias = convolution.weight, convolution.bias
    return plain


def without_adaptive_pools(model: Deployed) -> Deployed:
    """A copy in which AveragePool takes the place of nn.AdaptiveAvgPool2d, global pools apart."""
    copy = deepcopy(model)
    for module in list(copy.modules()):
        for name, child in module.named_children():
            if type(child) is nn.AdaptiveAvgPool2d:
                size = child.output_size
                height, width = size if isinstance(size, tuple) else (size, size)
                if height is not None and width is not None and (height, width) != (1, 1):
                    setattr(module, name, AveragePool((height, width)))
    return copy
