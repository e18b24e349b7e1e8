"""Two views of an image whose label a teacher writes or is: the teacher's, and the student's, which is harder to read.

The strong view has the pixels of the weak one where they are, in other colors or hidden (PSEUDO_LABELS.COLOR_JITTER and
ALBUMENTATIONS), so that labels, and a teacher's maps, hold for both (FixMatch, Sohn et al., NeurIPS 2020; UniMatch,
Yang et al., CVPR 2023).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from torch import Tensor

from densedist.common.data.augmentations import Augmentations, build_photometric
from densedist.common.data.sides import MARK
from densedist.common.distill.registry import is_on

NODE = "PSEUDO_LABELS"
IMAGE, WEAK = "image", "teacher_image"  # keys of a sample
REMEDY = "name it in INPUT.ALBUMENTATIONS, which student and teacher see, or leave it out"
Sample = dict[str, Any]
Mapper = Callable[[Any], Sample]


class StrongViews:
    """A mapper whose samples without true labels have a strong view as "image"; others stay as they are.

    Args:
        mapper: gives samples; "image" is uint8 (3, H, W).
        augment: makes the strong view of the weak one.
        labels: the key of a sample's labels. It has true ones where it has this key and no "pseudo_labeled".
        two: keep the weak view as "teacher_image".
    """

    def __init__(self, mapper: Mapper, augment: Augmentations, labels: str, two: bool) -> None:
        self.mapper, self.augment, self.labels, self.two = mapper, augment, labels, two

    def __call__(self, item: Any) -> Sample:
        sample = self.mapper(item)
        if is_true(sample, self.labels):
            return sample
        weak = sample[IMAGE]
        strong = self.augment({"image": np.ascontiguousarray(weak.permute(1, 2, 0).numpy())})["image"]
        sample[IMAGE] = torch.from_numpy(np.ascontiguousarray(strong.transpose(2, 0, 1)))
        return sample | {WEAK: weak} if self.two else sample


def with_strong_views(mapper: Mapper, cfg: CfgNode, labels: str) -> Mapper:
    """Return the mapper with the strong views of PSEUDO_LABELS; itself where the config asks for none.

    A cached teacher saw the images before, so the weak views are left out.

    Args:
        labels: the key of a sample's labels.
    """
    augment = build_strong(cfg)
    two = is_on(cfg.DISTILL) and not cfg.DISTILL.TEACHER.CACHE
    return mapper if augment is None else StrongViews(mapper, augment, labels, two)


def build_strong(cfg: CfgNode) -> Augmentations | None:
    """Build what PSEUDO_LABELS.COLOR_JITTER and ALBUMENTATIONS name; None without any.

    Raises:
        UserError: a transform that is unknown, moves pixels, or does not work on an image alone.
    """
    return build_photometric(cfg[NODE], NODE, cfg.INPUT.FORMAT == "BGR", REMEDY)


def is_true(sample: Mapping[str, Any], labels: str) -> bool:
    """Return whether a sample has labels that no teacher wrote.

    Args:
        labels: the key of a sample's labels.
    """
    return labels in sample and not sample.get(MARK)


def seen_by_teacher(samples: Sequence[Mapping[str, Any]]) -> list[Tensor]:
    """Return the images (3, H, W) of a batch as a teacher sees them: weak views, where the student sees strong ones."""
    return [sample.get(WEAK, sample[IMAGE]) for sample in samples]


def in_words(cfg: CfgNode, joining: str) -> str:
    """Return what PSEUDO_LABELS does with images, for the plan; "" for nothing.

    Args:
        joining: the task's key of PSEUDO_LABELS that shows a part of another image, by its last name.
    """
    augment, node, where = build_strong(cfg), cfg[NODE], "images without true labels"
    alone = [f"{augment} in {where}, for the student only"] if augment else []
    joined = [f"{joining} in {100 * node[joining]:g} % of {where}"] if node[joining] else []
    return "; ".join([*alone, *joined])
