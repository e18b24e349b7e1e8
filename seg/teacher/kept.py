"""A network as a teacher that does not see the batches: its logits of whole images are kept on disk (seg/cache.py)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from densedist.common.distill.teacher import Maps, Samples
from densedist.seg.data.cutmix import mix_maps
from densedist.seg.networks.dense import LOGITS
from densedist.seg.networks.resampling import Grid, sample_at
from densedist.seg.teacher.adapting import KEPT_MASS
from densedist.seg.teacher.teacher import SegPending, SegTeacher

KEPT = (*LOGITS, KEPT_MASS)  # the names of the maps that are kept


class KeptLogits(SegTeacher):
    """A teacher whose logits come with the samples of a CachedReader."""

    def begin(self, samples: Samples) -> SegPending:
        return KeptPending(self, samples)


class KeptPending(SegPending):
    """A batch whose logits are looked up where the student's pixels come from."""

    def at(self, student: Mapping[str, Tensor], size: Sequence[int]) -> tuple[Maps, Maps]:
        teacher, samples, wanted = self.teacher, self.samples, self.wanted_sizes(student)
        device, align_corners = teacher.model.mean.device, teacher.model.align_corners
        maps, valid = {}, {}
        for name in (name for name in KEPT if name in wanted and name in samples[0]["teacher"]):
            coordinates = [_student_coordinates(sample, wanted[name], size).to(device) for sample in samples]
            whole = [
                sample_at(
                    sample["teacher"][name].to(device, torch.float32),
                    at,
                    Grid(sample["teacher_size"], align_corners),
                )
                for sample, at in zip(samples, coordinates, strict=True)
            ]
            found = torch.stack(mix_maps(whole, samples, size))
            valid[name] = found[:, 0].isfinite()
            maps[name] = found.nan_to_num().to(teacher.precision)
        return self.without_mass(maps, valid)


def _student_coordinates(sample: Mapping[str, Any], grid: Sequence[int], size: Sequence[int]) -> Tensor:
    """Return where the student's logits lie in the whole image: x and y in pixels, (2, h, w), NaN where they see none.

    Args:
        grid: height and width of the student's logits.
        size: of its batch, in pixels; at its bottom and right it may be padding.
    """
    device = sample["coordinates"].device
    y, x = (torch.linspace(0, length - 1, count, device=device) for length, count in zip(size, grid, strict=True))
    here = torch.stack(torch.meshgrid(x, y, indexing="xy"))
    inside = (here[0] <= sample["width"] - 1) & (here[1] <= sample["height"] - 1)
    return sample_at(sample["coordinates"], here, Grid((sample["height"], sample["width"]))).where(inside, torch.nan)
