"""Detectors with the names and the arithmetic of mmdetection's, written from the published architectures."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d
from torchvision.ops import roi_align

RGB = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
PIXELS = {  # to RGB, mean, std
    "pytorch": (True, *RGB),
    "caffe": (False, RGB[0][::-1], [1.0, 1.0, 1.0]),
    "pytorch-bgr": (False, RGB[0][::-1], RGB[1][::-1]),
}
STDS = [0.1, 0.1, 0.2, 0.2], [0.05, 0.05, 0.1, 0.1], [0.033, 0.033, 0.067, 0.067]


class Conv(nn.Module):
    """A convolution that is called conv, as most are."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Block(nn.Module):
    """A bottleneck, or without groups' width a basic block."""

    def __init__(self, inputs: int, outputs: int, width: int, groups: int, stride: int, caffe: bool) -> None:
        super().__init__()
        if width:
            first, second = (stride, 1) if caffe else (1, stride)
            shapes = [(inputs, width, 1, first, 1), (width, width, 3, second, groups), (width, outputs, 1, 1, 1)]
        else:
            shapes = [(inputs, outputs, 3, stride, 1), (outputs, outputs, 3, 1, 1)]
        for n, (i, o, kernel, step, parts) in enumerate(shapes, 1):
            setattr(self, f"conv{n}", nn.Conv2d(i, o, kernel, step, kernel // 2, groups=parts, bias=False))
            setattr(self, f"bn{n}", nn.BatchNorm2d(o))
        self.count = len(shapes)
        if stride > 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for n in range(1, self.count + 1):
            y = getattr(self, f"bn{n}")(getattr(self, f"conv{n}")(y))
            y = y.relu() if n < self.count else y
        return (y + (self.downsample(x) if hasattr(self, "downsample") else x)).relu()


class ResNet(nn.Module):
    """Four maps. Args: base: channels of the stem; width: of the 3x3 of layer1, 0 = basic blocks."""

    def __init__(self, blocks: Sequence[int], base: int, width: int, groups: int, caffe: bool) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, base, 7, 2, 3, bias=False), nn.BatchNorm2d(base)
        inputs = base
        for n, count in enumerate(blocks):
            outputs, layer = base * 2**n * (4 if width else 1), nn.Sequential()
            for i in range(count):
                stride = 2 if n and not i else 1
                layer.append(Block(inputs, outputs, width * 2**n, groups, stride, caffe))
                inputs = outputs
            setattr(self, f"layer{n + 1}", layer)
        self.channels = [base * 2**n * (4 if width else 1) for n in range(4)]

    def forward(self, x: Tensor) -> list[Tensor]:
        x = max_pool2d(self.bn1(self.conv1(x)).relu(), 3, 2, 1)
        maps = []
        for n in range(1, 5):
            x = getattr(self, f"layer{n}")(x)
            maps.append(x)
        return maps


class Neck(nn.Module):
    """FPN, and for RetinaNet two more convolutions, on C5 and on what that gives."""

    def __init__(self, channels: Sequence[int], out: int, more: int) -> None:
        super().__init__()
        self.lateral_convs = nn.ModuleList(Conv(c, out, 1) for c in channels)
        extra = [Conv(channels[-1] if not n else out, out, 3, 2) for n in range(more)]
        self.fpn_convs = nn.ModuleList([*(Conv(out, out, 3) for _ in channels), *extra])

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        laterals = [conv(x) for conv, x in zip(self.lateral_convs, maps, strict=True)]
        for n in range(len(laterals) - 1, 0, -1):
            laterals[n - 1] = laterals[n - 1] + interpolate(laterals[n], size=laterals[n - 1].shape[2:])
        count = len(laterals)
        result = [conv(x) for conv, x in zip(self.fpn_convs[:count], laterals, strict=True)]
        if len(self.fpn_convs) == count:
            return [*result, max_pool2d(result[-1], 1, 2)]
        x = maps[-1]
        for conv in self.fpn_convs[count:]:
            x = conv(x)
            result.append(x)
        return result


class RPNHead(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.rpn_conv = nn.Conv2d(channels, channels, 3, 1, 1)
        self.rpn_cls, self.rpn_reg = nn.Conv2d(channels, 3, 1), nn.Conv2d(channels, 12, 1)


class BoxHead(nn.Module):
    def __init__(self, channels: int, width: int, classes: int, agnostic: bool) -> None:
        super().__init__()
        self.shared_fcs = nn.ModuleList([nn.Linear(channels * 49, width), nn.Linear(width, width)])
        self.fc_cls = nn.Linear(width, classes + 1)
        self.fc_reg = nn.Linear(width, 4 if agnostic else 4 * classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.flatten(1)
        for layer in self.shared_fcs:
            x = layer(x).relu()
        return self.fc_cls(x), self.fc_reg(x)


class MaskHead(nn.Module):
    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(Conv(channels, channels, 3) for _ in range(4))
        self.upsample = nn.ConvTranspose2d(channels, channels, 2, 2)
        self.conv_logits = nn.Conv2d(channels, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = conv(x).relu()
        return self.conv_logits(self.upsample(x).relu())


class DenseHead(nn.Module):
    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.cls_convs = nn.ModuleList(Conv(channels, channels, 3) for _ in range(4))
        self.reg_convs = nn.ModuleList(Conv(channels, channels, 3) for _ in range(4))
        self.retina_cls = nn.Conv2d(channels, 9 * classes, 3, 1, 1)
        self.retina_reg = nn.Conv2d(channels, 36, 3, 1, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = x
        for one, other in zip(self.cls_convs, self.reg_convs, strict=True):
            x, y = one(x).relu(), other(y).relu()
        return self.retina_cls(x), self.retina_reg(y)


class Detector(nn.Module):
    """Any of them.

    Args:
        kind: "faster", "mask", "cascade", "cascade_mask" or "retinanet".
        style: of PIXELS, and with caffe the stride in the first 1x1.
        blocks, base, width, groups: see ResNet.
        channels: of the pyramid.
    """

    def __init__(
        self,
        kind: str,
        style: str = "pytorch",
        classes: int = 3,
        blocks: Sequence[int] = (3, 4, 6, 3),
        base: int = 8,
        width: int = 8,
        groups: int = 1,
        channels: int = 16,
        fc: int = 24,
    ) -> None:
        super().__init__()
        self.kind, self.style = kind, style
        self.backbone = ResNet(blocks, base, width, groups, style == "caffe")
        if kind == "retinanet":
            self.neck = Neck(self.backbone.channels[1:], channels, 2)
            self.bbox_head = DenseHead(channels, classes)
            return
        self.neck, self.rpn_head, self.roi_head = (
            Neck(self.backbone.channels, channels, 0),
            RPNHead(channels),
            nn.Module(),
        )
        cascade = kind.startswith("cascade")
        heads = [BoxHead(channels, fc, classes, cascade) for _ in range(3 if cascade else 1)]
        masks = [MaskHead(channels, classes) for _ in heads]
        self.roi_head.bbox_head = nn.ModuleList(heads) if cascade else heads[0]
        if "mask" in kind:
            self.roi_head.mask_head = nn.ModuleList(masks) if cascade else masks[0]

    def maps(self, rgb: Tensor) -> list[Tensor]:
        """Of a raw image (3, H, W)."""
        to_rgb, mean, std = PIXELS[self.style]
        dtype = self.backbone.conv1.weight.dtype
        image = (rgb if to_rgb else rgb.flip(0)).to(dtype)
        image = (image - torch.tensor(mean, dtype=dtype)[:, None, None]) / torch.tensor(std, dtype=dtype)[:, None, None]
        found = self.backbone(image[None])
        return self.neck(found[1:] if self.kind == "retinanet" else found)

    def dense(self, rgb: Tensor) -> dict[str, list[Tensor]]:
        """Of a RetinaNet, the output maps of each level."""
        logits, deltas = zip(*map(self.bbox_head, self.maps(rgb)), strict=True)
        return {"logits": list(logits), "deltas": list(deltas)}

    def regions(self, rgb: Tensor, boxes: Tensor) -> dict[str, list[Tensor]]:
        """Of an R-CNN: the RPN's maps, and of given boxes (R, 4) what each stage says, and the last one's masks."""
        maps, rpn, roi = self.maps(rgb), self.rpn_head, self.roi_head
        hidden = [rpn.rpn_conv(x).relu() for x in maps]
        heads = list(roi.bbox_head) if self.kind.startswith("cascade") else [roi.bbox_head]
        pooled = _pool(maps[:4], boxes, 7)
        logits, deltas = zip(*(head(pooled) for head in heads), strict=True)
        result = {
            "rpn_logits": [rpn.rpn_cls(x) for x in hidden],
            "rpn_deltas": [rpn.rpn_reg(x) for x in hidden],
            "logits": list(logits),
            "deltas": list(deltas),
            "boxes": [_decode(boxes, d, std) for d, std in zip(deltas, STDS, strict=False)],
        }
        if "mask" in self.kind:
            mask = roi.mask_head[-1] if self.kind.startswith("cascade") else roi.mask_head
            result["masks"] = [mask(_pool(maps[:4], boxes, 14))]
        return result


def _pool(maps: list[Tensor], boxes: Tensor, size: int) -> Tensor:
    sides = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    levels = (sides.sqrt() / 56 + 1e-6).log2().floor().clamp(0, 3).long()
    result = maps[0].new_zeros(len(boxes), maps[0].shape[1], size, size)
    for n, x in enumerate(maps):
        chosen = levels == n
        result[chosen] = roi_align(x, [boxes[chosen]], size, 1 / 4 / 2**n, 0, aligned=True)
    return result


def _decode(boxes: Tensor, deltas: Tensor, stds: Sequence[float]) -> Tensor:
    """Boxes (R, 4 x classes) that deltas over standard deviations move boxes to."""
    moves = deltas.unflatten(1, (-1, 4)) * deltas.new_tensor(stds)
    centers, sizes = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2, boxes[:, None, 2:] - boxes[:, None, :2]
    grown = sizes * moves[..., 2:].clamp(max=math.log(1000 / 16)).exp()
    middle = centers + sizes * moves[..., :2]
    return torch.cat([middle - grown / 2, middle + grown / 2], 2).flatten(1)
