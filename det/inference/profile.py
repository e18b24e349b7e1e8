"""A detector and its teacher as common/profile.py measures them."""

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import cycle, islice
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.data.detection_utils import read_image
from detectron2.data.transforms import ResizeTransform
from torch import Tensor, nn

from densedist.common.data.headers import Size
from densedist.common.distill.teacher_files import locate_teacher
from densedist.common.errors import UserError
from densedist.common.profile import BATCHES, Images, load_subjects, random_images
from densedist.common.run_files import Weights
from densedist.common.task import Subjects
from densedist.det.datasets import test_dataset
from densedist.det.evaluation import metric
from densedist.det.models import load_trained, read_config


def profile(student: Weights, teacher: str, beside: Mapping[str, Weights], device: str) -> Subjects:
    """Load student and teacher, to be measured on images of DATASETS.TEST at the usual size of 4:3 images."""
    cfg = read_config(student.config, student.overrides, student.trusted)
    pictures, note = _pictures(cfg)

    def prepare(files: Weights) -> tuple[nn.Module, Images]:
        trained = load_trained(files)
        return trained.model, partial(_batch, pictures, trained.cfg.INPUT.FORMAT)

    subjects = load_subjects(student, locate_teacher(cfg.DISTILL.TEACHER, teacher), beside, device, prepare, _compiled)
    short = cfg.INPUT.MIN_SIZE_TEST
    size = short, min(short * 4 // 3, cfg.INPUT.MAX_SIZE_TEST)
    pixels = lambda size: _batch(pictures, cfg.INPUT.FORMAT, size, 1)[0]["image"].numpy()  # noqa: E731
    return Subjects(subjects, size, note, cfg, metric(cfg), pixels)


def _compiled(model: nn.Module, threads: int) -> nn.Module:
    """Return a copy whose backbone is compiled: torch.compile cannot follow boxes whose number depends on the image."""
    copied: Any = copy.deepcopy(model)
    copied.backbone = torch.compile(copied.backbone, options={"cpp.threads": threads})
    return copied


def _pictures(cfg: CfgNode) -> tuple[list[str], str]:
    """List image files of DATASETS.TEST, none where it is not there, and say what they are."""
    try:
        dataset = test_dataset(cfg)
    except UserError:
        return [], "random images, in which a detector finds next to nothing: heads that look at findings idle"
    files = [entry["file_name"] for entry in DatasetCatalog.get(dataset)[: max(BATCHES)]]
    return files, f"images of {dataset}, resized"


def _batch(pictures: Sequence[str], channels: str, size: Size, count: int) -> list[dict]:
    read = [_read(file, channels, size) for file in islice(cycle(pictures), count)]
    return [{"image": image} for image in read or random_images(size, count)]


def _read(file: str, channels: str, size: Size) -> Tensor:
    image = read_image(file, channels)
    resized = ResizeTransform(*image.shape[:2], *size).apply_image(image)
    return torch.from_numpy(resized.transpose(2, 0, 1).copy())
