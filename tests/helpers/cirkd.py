"""The networks of the DIST and CIRKD authors, written anew from their architecture, with the names of their tensors.

Only what a forward pass in evaluation needs. Every number that could be wrong by chance is random: see randomize.
"""

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional as F


class Basic(nn.Module):
    def __init__(self, inputs, width, stride, first, then):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, first, first, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, then, then, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = shortcut(inputs, width, stride)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class Bottleneck(nn.Module):
    def __init__(self, inputs, width, stride, first, then):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, first, first, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        self.downsample = shortcut(inputs, 4 * width, stride)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x))


def shortcut(inputs, outputs, stride):
    if inputs == outputs and stride == 1:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class ResNet(nn.Module):
    """Stages 3 and 4 keep the size; their first block has half the dilation of the others in its first 3x3."""

    def __init__(self, counts, bottleneck, deep):
        super().__init__()
        self.deep = deep
        if deep:
            for n, (inputs, outputs, stride) in enumerate([(3, 64, 2), (64, 64, 1), (64, 128, 1)], 1):
                self.add_module(f"conv{n}", nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False))
                self.add_module(f"bn{n}", nn.BatchNorm2d(outputs))
        else:
            self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        kind, inputs = (Bottleneck if bottleneck else Basic), 128 if deep else 64
        for n, (count, width, stride, dilation) in enumerate(
            zip(counts, (64, 128, 256, 512), (1, 2, 1, 1), (1, 1, 2, 4), strict=True), 1
        ):
            blocks = []
            for i in range(count):
                first = max(dilation // 2, 1) if i == 0 else dilation
                # A bottleneck has one 3x3, a basic block two.
                blocks.append(kind(inputs, width, stride if i == 0 else 1, first, dilation))
                inputs = width * (4 if bottleneck else 1)
            self.add_module(f"layer{n}", nn.Sequential(*blocks))
        self.channels = inputs

    def forward(self, x):
        for n in range(1, 4 if self.deep else 2):
            x = F.relu(getattr(self, f"bn{n}")(getattr(self, f"conv{n}")(x)))
        x = F.max_pool2d(x, 3, 2, 1)
        x = self.layer3(self.layer2(self.layer1(x)))
        return x, self.layer4(x)


def unit(inputs, outputs, size=1, dilation=1):
    padding = dilation if size == 3 else 0
    return [nn.Conv2d(inputs, outputs, size, 1, padding, dilation, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


def named(**parts):
    return nn.Sequential(OrderedDict(parts))


class ASPP(nn.Module):
    def __init__(self, inputs, width):
        super().__init__()
        self.b0 = nn.Sequential(*unit(inputs, width))
        for n, rate in enumerate((12, 24, 36), 1):
            self.add_module(f"b{n}", named(block=nn.Sequential(*unit(inputs, width, 3, rate))))
        self.b4 = named(gap=nn.Sequential(nn.AdaptiveAvgPool2d(1), *unit(inputs, width)))
        self.project = nn.Sequential(*unit(5 * width, width), nn.Dropout(0.5))

    def forward(self, x):
        maps = [self.b0(x), self.b1(x), self.b2(x), self.b3(x), self.b4(x).expand(-1, -1, *x.shape[2:])]
        return self.project(torch.cat(maps, 1))


class DeepLabHead(nn.Module):
    def __init__(self, inputs, width, classes):
        super().__init__()
        self.aspp = ASPP(inputs, width)
        self.block = nn.Sequential(*unit(width, width, 3), nn.Dropout(0.1), nn.Conv2d(width, classes, 1))

    def forward(self, x):
        return self.block(self.aspp(x))


class PSPHead(nn.Module):
    def __init__(self, inputs, width, classes):
        super().__init__()
        self.psp = nn.ModuleDict({f"conv{n}": nn.Sequential(*unit(inputs, inputs // 4)) for n in range(1, 5)})
        self.block = nn.Sequential(*unit(2 * inputs, width, 3), nn.Dropout(0.1))
        self.classifier = nn.Conv2d(width, classes, 1)

    def forward(self, x):
        maps = [x]
        for branch, size in zip(self.psp.values(), (1, 2, 3, 6), strict=True):
            pooled = branch(F.adaptive_avg_pool2d(x, size))
            maps.append(F.interpolate(pooled, x.shape[2:], mode="bilinear", align_corners=True))
        return self.classifier(self.block(torch.cat(maps, 1)))


class Net(nn.Module):
    """Normalized images (N, 3, H, W), BGR -> logits at stride 8, and those of the auxiliary head."""

    def __init__(self, head, width, classes=19, counts=(2, 2, 2, 2), bottleneck=False, deep=True):
        super().__init__()
        self.pretrained = ResNet(counts, bottleneck, deep)
        channels = self.pretrained.channels
        self.head = head(channels, width, classes)
        middle = channels // 8
        block = nn.Sequential(*unit(channels // 2, middle, 3), nn.Dropout(0.1), nn.Conv2d(middle, classes, 1))
        self.auxlayer = named(block=block)

    def forward(self, images):
        third, fourth = self.pretrained(images)
        return self.head(fourth), self.auxlayer(third)


def randomize(model, seed=0):
    """Statistics, scales and biases that are all different, so that none can take another's place unseen."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
        elif tensor.is_floating_point() and tensor.dim() == 1:
            tensor.copy_(0.3 * torch.randn(tensor.shape, generator=generator) + (name.endswith("weight")))
        elif tensor.dim() == 4:
            tensor.copy_(torch.randn(tensor.shape, generator=generator) / tensor[0].numel() ** 0.5)
    return model.eval()
