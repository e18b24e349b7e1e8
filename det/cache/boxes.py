"""A two-stage teacher's boxes in whole training images with their class logits, kept on disk: soft labels for RoIs.

It sees each training image once, at the size of the tests. In training its boxes move with the
student's image; an RoI of the student takes the class logits of the box that it overlaps most, and where there is none,
those that the teacher gives the image's background.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data.transforms import TransformList
from detectron2.structures import Boxes, pairwise_iou
from torch import Tensor

from densedist.common.cache.arrays import KEY, About
from densedist.common.distill.taps import Taps
from densedist.common.errors import UserError
from densedist.det.cache.mapper import CachedMapper
from densedist.det.cache.settings import settings
from densedist.det.data.reading import read_input
from densedist.det.modeling import box_head
from densedist.det.taps.rois import RecordedRoIs, RoIs, rows_in_student_classes
from densedist.det.teacher.teacher import DetPending, DetTeacher

IOU = 0.5  # an RoI that overlaps a box by less is background, as in Detectron2's own sampling


class KeptRoIs(RoIs):
    """The tap cls_logits of a teacher whose boxes and logits come with the samples of a BoxesMapper."""

    def taps(self, needed: Collection[str], student: Any, recorded: RecordedRoIs, pending: DetPending) -> Taps:
        """
        Raises:
            UserError: samples of another loader than densedist's.
        """
        if any("teacher" not in sample for sample in pending.samples):
            raise UserError(f"{KEY} is for `densedist train det`: in a script of your own leave it empty")
        teacher = pending.teacher
        device = next(teacher.model.parameters()).device
        known = [[part.to(device) for part in sample["teacher"]] for sample in pending.samples]
        theirs = []
        for boxes, _ in recorded.regions:
            found = [soft_labels(rois, *of_image) for rois, of_image in zip(boxes, known, strict=True)]
            logits = rows_in_student_classes(teacher, torch.cat(found))
            theirs.append(_mirrored(logits, [len(rois) for rois in boxes], pending.samples).to(teacher.precision))
        return {"cls_logits": self.tap_of_logits(student, recorded, pending, theirs)}


def _mirrored(logits: Tensor, rois: Sequence[int], samples: Sequence[Mapping[str, Any]]) -> Tensor:
    """Return class logits (R, K) of the student's classes, swapped in images that are mirrored (INPUT.FLIP_PAIRS).

    Args:
        rois: how many each image has.
    """
    if not any("class_order" in sample for sample in samples):
        return logits
    parts = list(logits.split(list(rois)))
    for number, sample in enumerate(samples):
        if (order := sample.get("class_order")) is not None:
            background = range(len(order), logits.shape[1])
            parts[number] = parts[number][:, [*order, *background]]
    return torch.cat(parts)


def soft_labels(rois: Boxes, boxes: Tensor, logits: Tensor, background: Tensor) -> Tensor:
    """Return class logits (R, K) for RoIs.

    Args:
        boxes: (B, 4), of the teacher; those without an area are no boxes.
        logits: (B, K), of these boxes.
        background: (K,), for RoIs that overlap none by IOU.
    """
    overlaps = pairwise_iou(rois, Boxes(boxes))
    if overlaps.shape[1] == 0:
        return background.expand(len(rois), -1)
    overlap, best = overlaps.max(1)
    return logits[best].where(overlap[:, None] >= IOU, background)


class BoxesMapper(CachedMapper):
    """Samples with "teacher": boxes (B, 4) in pixels of the image, their class logits (B, K), the background's (K,)."""

    def look_up(
        self, kept: dict[str, Tensor], dataset_dict: dict, transforms: TransformList, image_shape: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        size = np.array([dataset_dict["width"], dataset_dict["height"]] * 2)
        boxes = Boxes(torch.from_numpy(transforms.apply_box(kept["boxes"].float().numpy() * size)).float())
        boxes.clip(image_shape)
        return boxes.tensor, kept["logits"].float(), kept["background"].float()


class BoxesToKeep:
    """Computes what a teacher finds in an image: boxes as parts of the image, filled up with empty ones, class logits.

    Args:
        cfg: the student's.
        teacher: whose boxes these are.
    """

    def __init__(self, cfg: CfgNode, teacher: DetTeacher) -> None:
        self.cfg, self.teacher = cfg, teacher
        self.model: Any = teacher.in_float32()
        heads = self.model.roi_heads
        self.last: Any = box_head.predictors(heads)[-1]
        columns = heads.num_classes + (box_head.activation(heads) == "softmax")
        most = self.last.test_topk_per_image
        self.shapes = {"boxes": [most, 4], "logits": [most, columns], "background": [columns]}

    @property
    def depends_on(self) -> dict[str, object]:
        """Return by name what decides, apart from the model, what is found."""
        size = self.cfg.INPUT.MIN_SIZE_TEST, self.cfg.INPUT.MAX_SIZE_TEST
        stages = {"DISTILL.TEACHER.CASCADE_STAGES": self.teacher.stages}
        return {"INPUT.MIN_SIZE_TEST, MAX_SIZE_TEST": size, **stages, **settings(self.model)}

    def about(self, _: str) -> About:
        return {"shapes": self.shapes}

    def __call__(self, image: str) -> dict[str, Tensor]:
        sample, _ = read_input(self.cfg, image)
        boxes, logits, background = self._find(self.teacher.in_channel_order([sample["image"]])[0])
        height, width = sample["image"].shape[1:]
        found = {"boxes": boxes / boxes.new_tensor([width, height] * 2), "logits": logits, "background": background}
        return {name: _filled(found[name].float(), shape) for name, shape in self.shapes.items()}

    def _find(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes (B, 4) that the teacher finds, their class logits, and those of the background."""
        model = self.model
        with self.teacher.alone():
            images = model.preprocess_image([{"image": image}])
            features = model.backbone(images.tensor)
            proposals, _ = model.proposal_generator(images, features)
            found, _ = model.roi_heads(images, features, proposals)
            boxes, around = found[0].pred_boxes, proposals[0].proposal_boxes
            logits = box_head.cls_logits(model.roi_heads, features, [Boxes.cat([boxes, around])], self.teacher.stages)
        ours, others = logits.split([len(boxes), len(around)])
        background = (pairwise_iou(around, boxes) < IOU).all(1)
        if background.any():
            return boxes.tensor, ours, others[background].mean(0)
        # The proposal that looks least like any class.
        return boxes.tensor, ours, others[others[:, : model.roi_heads.num_classes].amax(1).argmin()]


def _filled(x: Tensor, shape: Sequence[int]) -> Tensor:
    result = x.new_zeros(*shape)
    result[: len(x)] = x
    return result
