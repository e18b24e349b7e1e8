"""A frozen RetinaNet as the teacher of a one-stage student."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from detectron2.modeling.meta_arch import RetinaNet
from detectron2.modeling.meta_arch.retinanet import RetinaNetHead
from torch import Tensor

from densedist.common.distill.several import mean_logits
from densedist.det.taps import feature_taps
from densedist.det.teacher.detector import DetectorTeacher

LOGIT_TAPS = ("cls_logits", "logit_maps")
Given = tuple[list[Tensor], dict[str, Sequence[Tensor]]]


class RetinaNetTeacher(DetectorTeacher[RetinaNet]):
    """A frozen RetinaNet that classifies all its anchors; box regression and NMS do not run."""

    can_average = True
    others: Sequence["RetinaNetTeacher"] = ()

    def taps(self, needed: Collection[str], images: Sequence[Tensor], levels: Sequence[str] = ()) -> Given:
        """Class logits (N, anchors x classes, H, W) of each level, and the taps of det/taps.py needed.

        The logits are left out (an empty list) where neither cls_logits nor logit_maps is needed.

        Args:
            images: raw images (3, H, W), 0 to 255, in the student's channel order.
            levels: the backbone's maps to take.
        """
        found = self._taps(self.live_maps(images), needed, levels)
        return self._with_others(found, lambda other: other.taps(LOGIT_TAPS, images))

    def for_batch(
        self, needed: Collection[str], inputs: Sequence[Mapping[str, Any]], levels: Sequence[str] = ()
    ) -> Given:
        """The same for a batch of samples, as the student sees them.

        Args:
            inputs: {"image": …} each.
            needed, levels: see taps.
        """
        found = self._taps(self.maps(inputs), needed, levels)
        return self._with_others(found, lambda other: other.for_batch(LOGIT_TAPS, inputs))

    def _with_others(self, found: Given, of: Callable[["RetinaNetTeacher"], Given]) -> Given:
        """The taps found, with class logits that are the mean of all teachers."""
        logits, features = found
        if not self.others or not logits:
            return found
        each = [logits, *(of(other)[0] for other in self.others)]
        return [mean_logits(level, "sigmoid") for level in zip(*each, strict=True)], features

    def _taps(self, maps: dict[str, Tensor], needed: Collection[str], levels: Sequence[str]) -> Given:
        logits = []
        with self.alone():
            if set(LOGIT_TAPS) & set(needed):
                logits = self._class_maps([maps[level] for level in self.model.head_in_features])
            return logits, feature_taps(needed, maps, levels)

    def _class_maps(self, features: list[Tensor]) -> list[Tensor]:
        head = self.model.head
        if isinstance(head, RetinaNetHead):
            maps = [head.cls_score(head.cls_subnet(x)) for x in features]
        else:
            maps = head(features)[0]  # a head of somebody's own, whole
        return [self._as_ours(x) for x in maps]

    def _as_ours(self, logits: Tensor) -> Tensor:
        """Maps (N, anchors x its classes, H, W) in the student's classes."""
        if self.classes is None:
            return logits
        theirs = self.model.num_classes
        return self.classes.tiled(logits.shape[1] // theirs, theirs).of_teacher(logits, "sigmoid")
