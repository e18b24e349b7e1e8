"""A detector and its teacher as common/profile.py measures them."""

from collections.abc import Sequence
from functools import partial
from itertools import cycle, islice

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.data.detection_utils import read_image
from detectron2.data.transforms import ResizeTransform
from torch import Tensor

from densedist.common.distill.teacher_files import locate_teacher
from densedist.common.errors import UserError
from densedist.common.profile import BATCHES
from densedist.common.run_files import Weights
from densedist.common.task import Size, Subject, Subjects
from densedist.det.datasets import test_dataset
from densedist.det.models import load_trained, read_config


def load_subjects(student: Weights, teacher: str, device: str) -> Subjects:
    """The teacher, if there is one, and the student; the size of a 4:3 test image; what the images are.

    Args:
        teacher: its weights, or "none"; empty = those of the config.

    Raises:
        UserError: files that are missing or wrong.
    """
    cfg = read_config(student.config, student.overrides, student.trusted)
    sides = {"student": student}
    if found := locate_teacher(cfg.DISTILL.TEACHER, teacher):
        sides = {"teacher": found} | sides
    pictures, note = _pictures(cfg)
    subjects = []
    for name, files in sides.items():
        trained = load_trained(files.under("MODEL.DEVICE", device))
        subjects.append(Subject(name, trained.model, partial(_batch, pictures, trained.cfg.INPUT.FORMAT)))
    short = cfg.INPUT.MIN_SIZE_TEST
    return Subjects(subjects, (short, min(short * 4 // 3, cfg.INPUT.MAX_SIZE_TEST)), note)


def _pictures(cfg: CfgNode) -> tuple[list[str], str]:
    """Image files of DATASETS.TEST, none where it is not there, and what to say of them."""
    try:
        dataset = test_dataset(cfg)
    except UserError:
        return [], "random images, in which a detector finds next to nothing: heads that look at findings idle"
    files = [entry["file_name"] for entry in DatasetCatalog.get(dataset)[: max(BATCHES)]]
    return files, f"images of {dataset}, resized"


def _batch(pictures: Sequence[str], channels: str, size: Size, count: int) -> list[dict]:
    if not pictures:
        generator = torch.Generator().manual_seed(0)
        images = list(torch.randint(0, 256, (count, 3, *size), generator=generator, dtype=torch.uint8))
    else:
        images = [_read(file, channels, size) for file in islice(cycle(pictures), count)]
    return [{"image": image} for image in images]


def _read(file: str, channels: str, size: Size) -> Tensor:
    image = read_image(file, channels)
    resized = ResizeTransform(*image.shape[:2], *size).apply_image(image)
    return torch.from_numpy(resized.transpose(2, 0, 1).copy())
