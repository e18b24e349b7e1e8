"""The shipped networks for Cityscapes with random weights, and random images for them."""

from pathlib import Path

import torch
from detectron2.config import CfgNode
from torch import Tensor

from densedist.common.config import load
from densedist.common.profile import as_if_trained
from densedist.seg.config import GRAMMAR
from densedist.seg.networks.network import Network, build_network

CONFIGS = "seg/cityscapes"
TEACHER = "deeplabv3_r101.yaml"
STUDENT = "pspnet_r18_dist.yaml"
NAMES = "PSPNet R18 from DeepLabV3 R101"
SIZE = (128, 256)
CLASSES = 19


def config(file: str, device: torch.device, *overrides: str) -> CfgNode:
    """A config of CONFIGS, without weights to start from."""
    keys = ["MODEL.DEVICE", device.type, "MODEL.ENCODER.WEIGHTS", "", *overrides]
    return load(GRAMMAR, f"{CONFIGS}/{file}", keys)


def random_teacher(device: torch.device) -> Network:
    """The teacher with its auxiliary head."""
    torch.manual_seed(0)
    return as_if_trained(build_network(config(TEACHER, device)))


def save_teacher(teacher: Network, folder: Path) -> list[str]:
    """Its weights in a file there, and the keys that name it to a student."""
    assert teacher.aux_head is not None
    weights = folder / "teacher.pth"
    torch.save({"model": teacher.smp.state_dict(), "aux_head": teacher.aux_head.state_dict()}, weights)
    return ["DISTILL.TEACHER.CONFIG_FILE", f"{CONFIGS}/{TEACHER}", "DISTILL.TEACHER.WEIGHTS", str(weights)]


def save_random(file: str, weights: Path) -> dict[str, str]:
    """Write random weights of a config, and return the keys that make a student learn from it."""
    cfg = load(GRAMMAR, file, ["MODEL.DEVICE", "cpu", "MODEL.ENCODER.WEIGHTS", ""])
    torch.manual_seed(0)
    torch.save({"model": as_if_trained(build_network(cfg)).smp.state_dict()}, weights)
    return {"DISTILL.TEACHER.CONFIG_FILE": file, "DISTILL.TEACHER.WEIGHTS": str(weights)}


def random_images(size: tuple[int, int]) -> tuple[list[Tensor], Tensor]:
    """Two images, uint8 (3, height, width), and their labels (2, height, width)."""
    images = list(torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8))
    return images, torch.randint(0, CLASSES, (2, *size))


def samples(images: list[Tensor], labels: Tensor) -> list[dict]:
    """The same as a batch of training samples."""
    return [{"image": image, "sem_seg": label} for image, label in zip(images, labels, strict=True)]
