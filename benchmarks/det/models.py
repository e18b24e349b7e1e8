"""The shipped COCO detectors with random weights, and random images for them."""

from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.structures import BitMasks, Boxes, Instances
from torch import Tensor

from densedist.common.config import load
from densedist.common.profile import as_if_trained
from densedist.det.config import GRAMMAR, without_distillation
from densedist.det.models import build

CONFIGS = "det/coco"


def config(file: str, device: torch.device, *overrides: str) -> CfgNode:
    """A config of CONFIGS."""
    return load(GRAMMAR, f"{CONFIGS}/{file}", ["MODEL.DEVICE", device.type, *overrides])


def random_model(cfg: CfgNode) -> Any:
    """The plain model of cfg."""
    torch.manual_seed(0)
    return as_if_trained(build(without_distillation(cfg)))


def save_random(file: str, weights: Path) -> dict[str, str]:
    """Write random weights of a config, and return the keys that make a student learn from it."""
    torch.save({"model": random_model(load(GRAMMAR, file, ["MODEL.DEVICE", "cpu"])).state_dict()}, weights)
    return {"DISTILL.TEACHER.CONFIG_FILE": file, "DISTILL.TEACHER.WEIGHTS": str(weights)}


def random_image(size: tuple[int, int], seed: int) -> Tensor:
    """uint8 (3, height, width)."""
    return torch.randint(0, 256, (3, *size), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def random_boxes(size: tuple[int, int], count: int, seed: int) -> Boxes:
    """Boxes of an image, their sides a tenth to half as long as its own."""
    generator = torch.Generator().manual_seed(seed)
    extent = torch.tensor([size[1], size[0]])
    sides = extent * (0.1 + 0.4 * torch.rand(count, 2, generator=generator))
    corner = (extent - sides) * torch.rand(count, 2, generator=generator)
    return Boxes(torch.cat([corner, corner + sides], 1))


def random_sample(size: tuple[int, int], seed: int, objects: int = 7) -> dict:
    """A training sample with as many objects as COCO's images have on average."""
    instances = Instances(size)
    instances.gt_boxes = random_boxes(size, objects, seed)
    instances.gt_classes = torch.arange(objects)
    instances.gt_masks = BitMasks(torch.ones(objects, *size, dtype=torch.bool))
    return {"image": random_image(size, seed), "instances": instances}
