"""Bilinear resampling of maps: from one grid over the images to another, or at any coordinates."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from densedist.common.losses.checks import widen


@dataclass(frozen=True)
class Grid:
    """How the cells of a map lie on images.

    Args:
        pixels: height and width of the batch that it is a map of.
        corners: corner cells lie on corner pixels (align_corners): cell i of n on pixel i·(pixels - 1) / (n - 1). Else
            the pixels are cut into n equal parts, and a cell lies in the middle of its part.
        scale: how many times larger the images were made for that batch.
    """

    pixels: Sequence[int]
    corners: bool = True
    scale: float = 1.0

    def index(self, pixel: Tensor, dim: int, cells: int) -> Tensor:
        """Return the fractional index of the cells on which pixels of the unscaled images lie; some may be outside.

        Args:
            dim: 0 = vertical, 1 = horizontal.
            cells: how many the map has in that direction.
        """
        count = self.pixels[dim]
        if self.scale != 1:
            pixel = (pixel + 0.5) * self.scale - 0.5
        if self.corners:
            return pixel * ((cells - 1) / max(count - 1, 1))
        return (pixel + 0.5) * (cells / count) - 0.5


def resize(logits: Tensor, size: Sequence[int], corners: bool = True) -> Tensor:
    """Resize (N, K, h, w) to (N, K, *size), for two maps that lie on the same pixels in the same way.

    Args:
        corners: see Grid.
    """
    if logits.shape[2:] == torch.Size(size):
        return logits
    return F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=corners)


def resize_at(maps: Tensor, size: Sequence[int], grid: Grid, wanted: Sequence[int]) -> Tensor:
    """Resize (N, K, h, w) to (N, K, *size), for maps of the same images padded to batches of different sizes.

    Beyond the border of its batch a map has its border's values.

    Args:
        grid: how the maps lie on the images.
        size: of the result, whose corner cells lie on the corner pixels of a batch of `wanted` (height, width).
    """
    if grid == Grid(grid.pixels) and tuple(grid.pixels) == tuple(wanted):
        return resize(maps, size)
    result = widen(maps)
    for dim, cells in enumerate(size):
        # In float64 whatever the maps are in: float16 has no number 1024.5.
        pixel = torch.linspace(0, wanted[dim] - 1, cells, dtype=torch.float64, device=maps.device)
        result = _line(result, 2 + dim, grid.index(pixel, dim, maps.shape[2 + dim]))
    return result.to(maps.dtype)


def _line(maps: Tensor, dim: int, at: Tensor) -> Tensor:
    """Interpolate maps at fractional indices along one dimension."""
    last = maps.shape[dim] - 1
    at = at.clamp(0, last)
    low = at.long()
    weight = (at - low).to(maps.dtype).view(-1, *[1] * (maps.dim() - 1 - dim))
    above = (low + 1).clamp(max=last)
    return maps.index_select(dim, low).lerp(maps.index_select(dim, above), weight)


def sample_at(maps: Tensor, coordinates: Tensor, grid: Grid) -> Tensor:
    """Interpolate maps (C, h, w) at coordinates (2, a, b), x and y in pixels: (C, a, b), NaN where these are NaN.

    Args:
        grid: how the maps lie on the image; beyond the border they have their border's values.
    """
    height, width = maps.shape[1:]
    x, y = grid.index(coordinates[0], 1, width), grid.index(coordinates[1], 0, height)
    known = x.isfinite() & y.isfinite()
    where = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], -1)
    found = F.grid_sample(maps[None], where.nan_to_num()[None], padding_mode="border", align_corners=False)[0]
    return found.where(known, torch.nan)


def is_mirrored(coordinates: Tensor) -> bool:
    """Return whether coordinates (2, a, b), x and y in pixels of an image, NaN in padding, show it mirrored."""
    first = coordinates[:, :-1, :-1]
    right, down = coordinates[:, :-1, 1:] - first, coordinates[:, 1:, :-1] - first
    turn = right[0] * down[1] - right[1] * down[0]
    return bool(turn.nanmedian() < 0)


def nearest(labels: Tensor, size: Sequence[int]) -> Tensor:
    """Resize labels (N, H, W) to (N, *size): each cell of the smaller grid takes the nearest label."""
    rows, columns = (
        torch.linspace(0, full - 1, small, device=labels.device).round().long()
        for full, small in zip(labels.shape[1:], size, strict=True)
    )
    return labels[:, rows][:, :, columns]
