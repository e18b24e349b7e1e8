"""A teacher's boxes in whole training images with their class logits, kept on disk: soft labels for RoIs and anchors.

It sees each training image once, at the size of the tests. In training its boxes move with the student's image; see
det/taps/found.py for what they teach.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data.transforms import TransformList
from detectron2.structures import Boxes, pairwise_iou
from torch import Tensor

from densedist.common.cache.arrays import About
from densedist.det.cache.mapper import CachedMapper
from densedist.det.cache.settings import settings
from densedist.det.data.reading import read_input
from densedist.det.modeling import box_head
from densedist.det.taps.found import IOU
from densedist.det.teacher.foreign import ForeignTeacher
from densedist.det.teacher.objects import Objects
from densedist.det.teacher.teacher import DetTeacher


class BoxesMapper(CachedMapper):
    """Samples with "teacher": Objects, where boxes without an area are none."""

    def look_up(
        self, kept: dict[str, Tensor], dataset_dict: dict, transforms: TransformList, image_shape: tuple[int, int]
    ) -> Objects:
        size = np.array([dataset_dict["width"], dataset_dict["height"]] * 2)
        boxes = Boxes(torch.from_numpy(transforms.apply_box(kept["boxes"].float().numpy() * size)).float())
        boxes.clip(image_shape)
        return Objects(boxes.tensor, kept["logits"].float(), kept["background"].float())


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
        self.shapes = _shapes(self.last.test_topk_per_image, columns)

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
        return _to_keep(self._find(self.teacher.in_channel_order([sample["image"]])[0]), sample["image"], self.shapes)

    def _find(self, image: Tensor) -> Objects:
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
            return Objects(boxes.tensor, ours, others[background].mean(0))
        # The proposal that looks least like any class.
        return Objects(boxes.tensor, ours, others[others[:, : model.roi_heads.num_classes].amax(1).argmin()])


class ForeignBoxesToKeep:
    """The same of a detector of another project, which sees images as its own config says.

    Args:
        cfg: the student's.
        teacher: whose boxes these are.
    """

    def __init__(self, cfg: CfgNode, teacher: ForeignTeacher) -> None:
        self.cfg, self.teacher, self.model = cfg, teacher, teacher.model
        self.shapes = _shapes(self.model.most, len(self.model.names))

    @property
    def depends_on(self) -> dict[str, object]:
        """Return by name what decides, apart from the weights, what is found."""
        model = self.model
        limits = {"names": model.names, "least": model.least, "most": model.most, "precision": self.teacher.computes_in}
        return {"INPUT.MIN_SIZE_TEST, MAX_SIZE_TEST of the teacher": model.sides, **limits, **model.identity}

    def about(self, _: str) -> About:
        return {"shapes": self.shapes}

    def __call__(self, image: str) -> dict[str, Tensor]:
        sample, _ = read_input(self.cfg, image, self.model.sides)
        return _to_keep(self.teacher.look([sample["image"]])[0], sample["image"], self.shapes)


def _shapes(most: int, columns: int) -> dict[str, list[int]]:
    return {"boxes": [most, 4], "logits": [most, columns], "background": [columns]}


def _to_keep(found: Objects, image: Tensor, shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Return what is found in an image (3, H, W) as arrays of these shapes, boxes as parts of the image."""
    height, width = image.shape[1:]
    parts = found._replace(boxes=found.boxes / found.boxes.new_tensor([width, height] * 2))._asdict()
    return {name: _filled(parts[name].float(), shape) for name, shape in shapes.items()}


def _filled(x: Tensor, shape: Sequence[int]) -> Tensor:
    result = x.new_zeros(*shape)
    result[: len(x)] = x
    return result
