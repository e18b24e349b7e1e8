"""A two-stage teacher's boxes in whole training images with their class logits, kept on disk: soft labels for RoIs.

It sees each image of DATASETS.TRAIN and UNLABELED once, at the size of the tests. In training its boxes move with the
student's image; an RoI of the student takes the class logits of the box that it overlaps most, and where there is none,
those that the teacher gives the image's background.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.structures import Boxes, pairwise_iou
from torch import Tensor

from densedist.common.distill.cache import KEY, About, Arrays, fill, fingerprint
from densedist.common.errors import UserError
from densedist.common.task import Trainee
from densedist.det import box_head
from densedist.det.data.mapper import Mapper
from densedist.det.predict import read_input
from densedist.det.rcnn_teacher import RCNNTeacher
from densedist.det.taps import Extent

IOU = 0.5  # an RoI that overlaps a box by less is background, as in Detectron2's own sampling


class CachedRCNNTeacher(RCNNTeacher):
    """A teacher whose boxes and logits come with the samples of a CachedMapper; of a batch it gives cls_logits."""

    def for_batch(
        self,
        needed: Collection[str],
        inputs: Sequence[Mapping[str, Any]],
        boxes: list[list[Boxes]],
        levels: Sequence[str] = (),
        extents: Sequence[Extent] | None = None,
    ) -> dict[str, Sequence[Tensor]]:
        """
        Raises:
            UserError: samples of another loader than densedist's.
        """
        if any("teacher" not in sample for sample in inputs):
            raise UserError(f"{KEY} is for `densedist train det`: in a script of your own leave it empty")
        device = self.model.device
        known = [[part.to(device) for part in sample["teacher"]] for sample in inputs]
        logits = [
            torch.cat([soft_labels(rois, *of_image) for rois, of_image in zip(call, known, strict=True)])
            for call in boxes
        ]
        return {"cls_logits": [of_call.to(self.precision) for of_call in logits]}


def soft_labels(rois: Boxes, boxes: Tensor, logits: Tensor, background: Tensor) -> Tensor:
    """Class logits (R, K) for RoIs.

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


class CachedMapper(Mapper):
    """The mapper with "teacher" in each sample: boxes (B, 4) in pixels of the image, their class logits (B, K), and
    those of the background (K,), all float32.

    Args:
        cfg: the student's.
        kept: of open_cache.
    """

    def __init__(self, cfg: CfgNode, kept: Mapping[str, tuple[Arrays, int]]) -> None:
        super().__init__(cfg, is_train=True)
        self.kept = kept

    def __call__(self, dataset_dict: dict) -> dict:
        # Without annotations nothing would be moved.
        sample = super().__call__(dataset_dict | {"annotations": dataset_dict.get("annotations", [])})
        if "annotations" not in dataset_dict:
            del sample["instances"]
        return sample

    def _transform_annotations(self, dataset_dict: dict, transforms: Any, image_shape: tuple[int, int]) -> None:
        super()._transform_annotations(dataset_dict, transforms, image_shape)
        arrays, number = self.kept[dataset_dict["file_name"]]
        kept = {name: part.float() for name, part in arrays.read(number).items()}
        size = np.array([dataset_dict["width"], dataset_dict["height"]] * 2)
        boxes = Boxes(torch.from_numpy(transforms.apply_box(kept["boxes"].numpy() * size)).float())
        boxes.clip(image_shape)
        dataset_dict["teacher"] = boxes.tensor, kept["logits"], kept["background"]


def fill_cache(cfg: CfgNode, trainee: Trainee) -> float:
    """Let the teacher see every training image that its cache lacks; seconds that the cache has taken in all.

    Raises:
        UserError: a cache of another teacher or of other images, or a disk without room.
    """
    if trainee.distillation is None or not cfg.DISTILL.TEACHER.CACHE:
        return 0.0
    teacher = trainee.distillation.teacher
    heads: Any = teacher.model.roi_heads
    last: Any = box_head.predictors(heads)[-1]
    columns, most = heads.num_classes + (box_head.activation(heads) == "softmax"), last.test_topk_per_image
    made_by = fingerprint(
        teacher.model,
        (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST),
        cfg.INPUT.FORMAT[::-1] if teacher.flip_channels else cfg.INPUT.FORMAT,
        (teacher.precision, teacher.stages, last.test_score_thresh, last.test_nms_thresh, most),
    )
    shapes = {"boxes": [most, 4], "logits": [most, columns], "background": [columns]}
    about: About = {"shapes": shapes}
    seconds = 0.0
    for file, images in _files(cfg):
        see = _Sight(cfg, teacher, images, shapes)
        seconds += fill(file, images, made_by, lambda _: about, see)
    return seconds


class _Sight:
    """What a teacher sees in an image, by its number: boxes as parts of the image, filled up with empty ones."""

    def __init__(
        self, cfg: CfgNode, teacher: RCNNTeacher, images: Sequence[str], shapes: Mapping[str, Sequence[int]]
    ) -> None:
        self.cfg, self.teacher, self.images, self.shapes = cfg, teacher, images, shapes
        self.model: Any = teacher.in_float32()

    def __call__(self, number: int) -> dict[str, Tensor]:
        sample, _ = read_input(self.cfg, self.images[number])
        boxes, logits, background = self._see(self.teacher.own_order([sample["image"]])[0])
        height, width = sample["image"].shape[1:]
        found = {"boxes": boxes / boxes.new_tensor([width, height] * 2), "logits": logits, "background": background}
        return {name: _filled(found[name].float(), shape) for name, shape in self.shapes.items()}

    def _see(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (B, 4) that the teacher finds, their class logits, and those of what lies beside all of them."""
        model = self.model
        with self.teacher.alone():
            images = model.preprocess_image([{"image": image}])
            features = model.backbone(images.tensor)
            proposals, _ = model.proposal_generator(images, features)
            found, _ = model.roi_heads(images, features, proposals)
            boxes, around = found[0].pred_boxes, proposals[0].proposal_boxes
            logits = box_head.cls_logits(model.roi_heads, features, [Boxes.cat([boxes, around])], self.teacher.stages)
        ours, others = logits.split([len(boxes), len(around)])
        beside = (pairwise_iou(around, boxes) < IOU).all(1)
        if beside.any():
            return boxes.tensor, ours, others[beside].mean(0)
        # The proposal that looks least like any class.
        return boxes.tensor, ours, others[others[:, : model.roi_heads.num_classes].amax(1).argmin()]


def _filled(x: Tensor, shape: Sequence[int]) -> Tensor:
    result = x.new_zeros(*shape)
    result[: len(x)] = x
    return result


def open_cache(cfg: CfgNode) -> dict[str, tuple[Arrays, int]]:
    """For each training image its place in the cache, which fill_cache has filled."""
    files = [(Arrays(file), images) for file, images in _files(cfg)]
    return {image: (arrays, number) for arrays, images in files for number, image in enumerate(images)}


def _files(cfg: CfgNode) -> Iterator[tuple[Path, list[str]]]:
    """A file for each data set that is trained on, and its images."""
    folder, node = Path(cfg.DISTILL.TEACHER.CACHE).expanduser(), cfg.DATASETS
    for name in dict.fromkeys([*node.TRAIN, *node.UNLABELED]):
        images = list(dict.fromkeys(entry["file_name"] for entry in DatasetCatalog.get(name)))
        yield folder / f"{name.replace('/', '_')}.boxes", images
