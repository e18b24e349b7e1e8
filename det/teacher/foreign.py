"""A detector that Detectron2 does not build as a teacher: of its boxes, with the scores of all classes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from densedist.common.distill.classes import FAR_BELOW, ClassMap
from densedist.common.distill.teacher import Samples
from densedist.common.distill.views import seen_by_teacher
from densedist.common.losses.checks import Activation
from densedist.det.foreign.detector import ForeignDetector
from densedist.det.teacher.objects import Objects, ObjectsTeacher


class ForeignTeacher(ObjectsTeacher):
    """A frozen detector of another project.

    Args:
        model: is changed in place.
        flip_channels: see Teacher.
        classes: how its named classes become the student's.
        computes_in: what it computes in; weights, and steps that need it, stay in float32.
        kept: see ObjectsTeacher.
    """

    model: ForeignDetector
    classes: ClassMap

    def __init__(
        self, model: ForeignDetector, flip_channels: bool, classes: ClassMap, computes_in: torch.dtype, kept: bool
    ) -> None:
        super().__init__(model, flip_channels, classes=classes)
        self.computes_in, self.kept = computes_in, kept

    def objects(self, samples: Samples) -> list[Objects]:
        """Return what is found in each image of a batch; where nothing is found no class has a score."""
        return self.kept_objects(samples) if self.kept else self.look(seen_by_teacher(samples))

    def look(self, images: Sequence[Tensor]) -> list[Objects]:
        """Return what is found in raw images (3, H, W), 0 to 255, of the student's channel order."""
        half = self.computes_in != torch.float32
        sizes = [(int(image.shape[1]), int(image.shape[2])) for image in images]
        with self.alone(), torch.autocast(self.device.type, self.computes_in if half else None, enabled=half):
            found = self.model.soft_boxes(self.in_channel_order(images), sizes)
        nothing = torch.full((len(self.model.names),), -FAR_BELOW, device=self.device)
        return [Objects(boxes.to(self.device), logits.to(self.device), nothing) for boxes, logits in found]

    def in_student_classes(self, logits: Tensor, activation: Activation) -> Tensor:
        """Return logits (R, K) of soft_boxes as those of a student's classes.

        Scores of sigmoids stay as they are. A softmax of the student's gets the background as one more class of logit
        0: then a class is to the background as its score is to the rest, p / (1 - p), and of one class the score itself
        stays. A softmax keeps its background. Sigmoids of the student's get its probabilities.

        Args:
            activation: of the student.

        Returns:
            (R, columns), for a softmax (R, columns + 1), the background last.
        """
        if self.model.activation == "sigmoid":
            rows = self.classes.of_teacher(logits, "sigmoid")
            return rows if activation == "sigmoid" else torch.cat([rows, torch.zeros_like(rows[:, :1])], 1)
        rows = torch.cat([logits, torch.zeros_like(logits[:, :1])], 1)
        rows = self.classes.with_background(logits.shape[1]).of_teacher(rows, "softmax")
        return rows if activation == "softmax" else _as_sigmoids(rows)


def _as_sigmoids(rows: Tensor) -> Tensor:
    """Return logits (R, K) whose sigmoids are the softmax of rows (R, K + 1) but for the last column."""
    logs = rows.log_softmax(1)[:, :-1]
    surest = 1 - torch.finfo(logs.dtype).eps  # 1 itself has no logit
    return logs - torch.log1p(-logs.exp().clamp(max=surest))
