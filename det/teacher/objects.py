"""A teacher that says what it finds in whole images, boxes with class logits, and is asked for nothing else."""

from abc import abstractmethod
from typing import Any, NamedTuple

from detectron2.structures import Boxes
from torch import Tensor

from densedist.common.cache.arrays import KEY
from densedist.common.distill.teacher import Samples
from densedist.common.errors import UserError
from densedist.det.teacher.teacher import DetTeacher


class Objects(NamedTuple):
    """What a teacher finds in an image.

    Args:
        boxes: (B, 4), in pixels of the student's image.
        logits: (B, C), of its own classes, as it has them.
        background: (C,), the logits of a place where it finds nothing.
    """

    boxes: Tensor
    logits: Tensor
    background: Tensor


class ObjectsTeacher(DetTeacher[Any]):
    """A teacher that gives Objects; see det/taps/found.py for what becomes of them.

    Attributes:
        kept: they come with the samples of a BoxesMapper (DISTILL.TEACHER.CACHE), as they were found in the image
            before it was mirrored.
    """

    kept: bool

    @abstractmethod
    def objects(self, samples: Samples) -> list[Objects]:
        """Return what is found in each image of a batch."""

    def kept_objects(self, samples: Samples) -> list[Objects]:
        """Return what is kept of each image of a batch, without boxes that have no area in the student's image.

        Raises:
            UserError: samples of another loader than densedist's.
        """
        if any("teacher" not in sample for sample in samples):
            raise UserError(f"{KEY} is for `densedist train det`: in a script of your own leave it empty")
        each = (Objects(*(part.to(self.device) for part in sample["teacher"])) for sample in samples)
        return [_with_area(objects) for objects in each]


def _with_area(objects: Objects) -> Objects:
    there = Boxes(objects.boxes).nonempty()
    return objects._replace(boxes=objects.boxes[there], logits=objects.logits[there])
