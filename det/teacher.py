"""What the teachers of all detectors share: a backbone that gives maps, of images or from a cache."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from torch import Tensor, nn

from densedist.common.distill.teacher import Teacher

M = TypeVar("M", bound=nn.Module)


class DetectorTeacher(Teacher[M]):
    """A frozen detector of Detectron2 whose heads look at the maps of its backbone."""

    model: Any

    def maps(self, inputs: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """The backbone's maps (N, C, h, w) for a batch of samples, by name.

        Args:
            inputs: {"image": raw (3, H, W)} each.
        """
        return self.live_maps([sample["image"] for sample in inputs])

    def live_maps(self, images: Sequence[Tensor]) -> dict[str, Tensor]:
        """The same for raw images (3, H, W), 0 to 255, in the student's channel order."""
        batch = self.model.preprocess_image([{"image": image} for image in self.own_order(images)])
        with self.alone():
            return self.model.backbone(batch.tensor.to(self.precision))
