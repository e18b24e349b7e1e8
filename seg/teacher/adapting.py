"""Networks that wrap networks: at another scale, in the student's classes, or the mean of an ensemble."""

from collections.abc import Sequence
from math import lcm
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from densedist.common.distill.classes import ClassMap
from densedist.common.distill.ensemble import mean_logits
from densedist.common.distill.speed import Part
from densedist.seg.networks.dense import LOGITS, DenseModel
from densedist.seg.networks.resampling import Grid, resize_at

KEPT_MASS = "kept_mass"  # the name of a map (N, 1, h, w)


class Wrapped(DenseModel):
    """A network that sees the same images as the one within it.

    Args:
        inner: gives maps for a normalized batch.
    """

    def __init__(self, inner: DenseModel) -> None:
        # Given again, as the pixels' mean and deviation of a teacher stay in float32.
        super().__init__(inner.mean.flatten().tolist(), inner.std.flatten().tolist())
        self.inner = inner
        self.align_corners, self.own_precision = inner.align_corners, inner.own_precision
        self.feature_channels, self.gives_aux = inner.feature_channels, inner.gives_aux
        self.to(inner.mean.device)

    @property
    def divisor(self) -> int:
        return self.inner.divisor

    @property
    def parts(self) -> list[Part]:
        return self.inner.parts

    @property
    def identity(self) -> tuple[str, ...]:
        return self.inner.identity


class Scaled(Wrapped):
    """The network sees images that many times larger, as nearly as its divisor allows.

    Its maps lie on the images as they would without: corner places on corner pixels, or centers in equal parts.
    """

    def __init__(self, inner: DenseModel, scale: float) -> None:
        super().__init__(inner)
        self.scale = scale

    @property
    def identity(self) -> tuple[str, ...]:
        return (*self.inner.identity, f"scale {self.scale}")

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        step = self.inner.divisor
        size = [max(round(side * self.scale / step), 1) * step for side in batch.shape[2:]]
        seen = F.interpolate(
            batch.float(), size=size, mode="bilinear", align_corners=self.align_corners, antialias=self.scale < 1
        )
        return self.inner(seen.to(batch.dtype).contiguous(memory_format=torch.channels_last))


class InClasses(Wrapped):
    """A network whose class logits are of the student's classes.

    Class logits have a column for each of them; of those without a counterpart it is far below all others. Beside them
    comes KEPT_MASS, how much of the network's probability its classes with a counterpart have.
    """

    def __init__(self, inner: DenseModel, classes: ClassMap) -> None:
        super().__init__(inner)
        self.class_map = classes

    @property
    def identity(self) -> tuple[str, ...]:
        return (*self.inner.identity, str(self.class_map))

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        output = dict(self.inner(batch))
        mass = self.class_map.mass(output["cls_logits"])[:, None].to(output["cls_logits"].dtype)
        output |= {name: self.class_map.of_teacher(output[name], "softmax") for name in LOGITS if name in output}
        return output | {KEPT_MASS: mass}


class Mean(DenseModel):
    """Several networks whose class probabilities are averaged; it gives class logits alone, at the finest resolution.

    Args:
        members: each on the same device.
        flipped: for each whether it wants the channels the other way round.
    """

    means: Tensor
    stds: Tensor

    def __init__(self, members: Sequence[DenseModel], flipped: Sequence[bool]) -> None:
        super().__init__([0.0] * 3, [1.0] * 3)
        self.members = nn.ModuleList(members)
        self.flipped = tuple(flipped)
        self.own_precision = any(member.own_precision for member in members)
        self.register_buffer("means", torch.stack([member.mean for member in members]), persistent=False)
        self.register_buffer("stds", torch.stack([member.std for member in members]), persistent=False)
        self.to(members[0].mean.device)

    @property
    def divisor(self) -> int:
        return lcm(*(member.divisor for member in self._each()))

    @property
    def parts(self) -> list[Part]:
        return [part for member in self._each() for part in member.parts]

    @property
    def identity(self) -> tuple[str, ...]:
        sides = zip(self._each(), self.flipped, self.means, self.stds, strict=True)
        return tuple(f"{m.identity} {flip} {mean.tolist()} {std.tolist()}" for m, flip, mean, std in sides)

    def _each(self) -> list[DenseModel]:
        return [cast(DenseModel, member) for member in self.members]

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        """Return mean class logits for a batch of raw images, which are padded with 0."""
        outputs = []
        for member, flip, mean, std in zip(self._each(), self.flipped, self.means, self.stds, strict=True):
            seen = (batch.float().flip(1) if flip else batch.float()).sub(mean).div(std).to(batch.dtype)
            outputs.append(member(seen.contiguous(memory_format=torch.channels_last)))
        size, pixels = [max(output["cls_logits"].shape[dim] for output in outputs) for dim in (2, 3)], batch.shape[2:]
        found: dict[str, list[Tensor]] = {"cls_logits": [], KEPT_MASS: []}
        for member, output in zip(self._each(), outputs, strict=True):
            for name in found.keys() & output.keys():
                found[name].append(resize_at(output[name].float(), size, Grid(pixels, member.align_corners), pixels))
        result = {"cls_logits": mean_logits(found["cls_logits"], "softmax")}
        if found[KEPT_MASS]:
            result[KEPT_MASS] = torch.stack(found[KEPT_MASS]).amin(0)
        return result
