"""A detector as a teacher that does not see the batches: its maps are kept on disk (det/cache/maps.py)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from densedist.common.cache.arrays import KEY
from densedist.common.distill.teacher import Maps, Samples
from densedist.common.errors import UserError
from densedist.det.teacher.teacher import DetTeacher


class KeptMaps(DetTeacher):
    """A teacher whose maps come with the samples of a MapsMapper."""

    def maps(self, samples: Samples) -> Maps:
        """Return the backbone's maps of a batch; smaller ones have zeros at their bottom and right.

        Raises:
            UserError: samples of another loader than densedist's.
        """
        if any("teacher" not in sample for sample in samples):
            raise UserError(f"{KEY} is for `densedist train det`: in a script of your own leave it empty")
        device = next(self.model.parameters()).device
        names = samples[0]["teacher"]
        return {name: self._stack([sample["teacher"][name].to(device) for sample in samples]) for name in names}

    def _stack(self, maps: Sequence[Tensor]) -> Tensor:
        height, width = (max(x.shape[axis] for x in maps) for axis in (1, 2))
        padded = [F.pad(x, (0, width - x.shape[2], 0, height - x.shape[1])) for x in maps]
        return torch.stack(padded).to(self.precision)
