"""A segmentation model and its teacher as common/benchmark/inference.py measures them."""

from functools import partial
from pathlib import Path

import torch
from detectron2.config import CfgNode
from torch import Tensor

from densedist.common.benchmark.inference import Size, Subject
from densedist.common.engine.locate import locate_teacher
from densedist.seg.deployed import Deployed
from densedist.seg.models import load_trained
from densedist.seg.task import load_config


def load(weights: str, config_file: str, teacher: str, device: str) -> tuple[list[Subject], Size, str]:
    """The teacher, if there is one, and the student; the size of a training crop; what the images are.

    Args:
        weights, config_file: see load_trained.
        teacher: its weights, or "none"; empty = those of the config.

    Raises:
        UserError: files that are missing or wrong.
    """
    cfg = load_config(config_file, [])
    files = {"--weights": (weights, config_file)}
    if found := _teacher_files(cfg, teacher, config_file):
        files = {"--teacher": found} | files
    subjects = []
    for key, (path, config) in files.items():
        trained = load_trained(path, config, ["MODEL.DEVICE", device], key)
        name = "student" if key == "--weights" else "teacher"
        subjects.append(Subject(name, Deployed(trained.model.network).eval(), partial(_batch, device)))
    height, width = cfg.INPUT.CROP_SIZE
    return subjects, (height, width), "random images; logits of their size"


def _teacher_files(cfg: CfgNode, given: str, config_file: str) -> tuple[str, str] | None:
    """As locate_teacher; a folder of SMP's save_pretrained needs no config but the student's."""
    weights = given or cfg.DISTILL.TEACHER.WEIGHTS
    if (Path(weights) / "config.json").is_file() and (given or not cfg.DISTILL.TEACHER.CONFIG_FILE):
        return weights, config_file
    return locate_teacher(cfg.DISTILL.TEACHER, given)


def _batch(device: str, size: Size, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, *size), generator=generator, dtype=torch.uint8).to(device)
