"""A detector as a teacher that does not see the batches: its maps or boxes are kept on disk (det/cache)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from densedist.common.cache.arrays import KEY
from densedist.common.distill.teacher import Maps, Samples
from densedist.common.errors import UserError
from densedist.det.teacher.objects import Objects, ObjectsTeacher
from densedist.det.teacher.teacher import DetTeacher


class KeptBoxes(ObjectsTeacher):
    """A two-stage teacher whose boxes come with the samples of a BoxesMapper."""

    kept = True

    def objects(self, samples: Samples) -> list[Objects]:
        return self.kept_objects(samples)


class KeptMaps(DetTeacher):
    """A teacher whose maps come with the samples of a MapsMapper."""

    def maps(self, samples: Samples) -> Maps:
        """Return the backbone's maps of a batch; smaller ones have zeros at their bottom and right.

        Raises:
            UserError: samples of another loader than densedist's.
        """
        if any("teacher" not in sample for sample in samples):
            raise UserError(f"{KEY} is for `densedist train det`: in a script of your own leave it empty")
        names = samples[0]["teacher"]
        return {name: self._stack([sample["teacher"][name].to(self.device) for sample in samples]) for name in names}

    def _stack(self, maps: Sequence[Tensor]) -> Tensor:
        height, width = (max(x.shape[axis] for x in maps) for axis in (1, 2))
        padded = [F.pad(x, (0, width - x.shape[2], 0, height - x.shape[1])) for x in maps]
        return torch.stack(padded).to(self.precision)
