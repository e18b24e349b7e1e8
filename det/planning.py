"""A detector as a plan of its training sees it (common/plan)."""

from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints
from torch import nn

from densedist.common.config import load, trust
from densedist.common.data.headers import Size
from densedist.common.plan.stand_in import stand_in
from densedist.common.profile import as_if_trained, random_images
from densedist.common.task import Planned
from densedist.det.architectures import class_count
from densedist.det.config import GRAMMAR, keeps_boxes, without_distillation
from densedist.det.models import build

OBJECTS = 7  # of an image, as COCO's have on average


def planned(cfg: CfgNode, folder: Path) -> Planned:
    """Return what a plan needs: images are 4:3, as most of COCO's, and a batch of wide or tall ones has the longest."""
    on_cpu = cfg.clone()
    on_cpu.defrost()
    on_cpu.MODEL.DEVICE, on_cpu.MODEL.TIMM.PRETRAINED = "cpu", False
    node, data = on_cpu.DISTILL.TEACHER, on_cpu.DATASETS
    data.TRAIN, data.PSEUDO_LABELED = [*data.TRAIN, *data.PSEUDO_LABELED], []
    stand_in(on_cpu, folder, lambda config: _random_weights(on_cpu, config))
    if node.PRECISION == "auto":
        node.PRECISION = "float16"  # as on a GPU
    boxes = keeps_boxes(on_cpu)
    node.CACHE, node.COMPILE, node.STREAM = "", False, False
    sides, longest = cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN
    short = round(sum(sides) / len(sides))
    grouped = cfg.DATALOADER.ASPECT_RATIO_GROUPING
    largest = (min(max(sides), longest) if grouped else longest, longest)
    return Planned(
        on_cpu,
        lambda size, labeled, unlabeled: _batch(on_cpu, size, labeled, unlabeled),
        (short, min(short * 4 // 3, longest)),
        largest,
        lambda teacher: [teacher] if boxes else [teacher.backbone],
    )


def _random_weights(student: CfgNode, config: str) -> dict[str, Any]:
    words = ["MODEL.DEVICE", "cpu", *trust.words(student)]
    cfg = load(GRAMMAR, config, words, "DISTILL.TEACHER.CONFIG_FILE", trusted=False)
    model: nn.Module = as_if_trained(build(without_distillation(cfg)))
    return {"model": model.state_dict()}


def _batch(cfg: CfgNode, size: Size, labeled: int, unlabeled: int) -> list[dict[str, Any]]:
    """Return samples of noise, those with labels first."""
    samples: list[dict[str, Any]] = []
    for image in random_images(size, labeled + unlabeled):
        objects = {"instances": _objects(cfg, size)} if len(samples) < labeled else {}
        samples.append({"image": image, "height": size[0], "width": size[1], **objects})
    return samples


def _objects(cfg: CfgNode, size: Size) -> Instances:
    """Return objects from a tenth to two thirds of the image, along its diagonal."""
    extent = torch.tensor([size[1], size[0]])
    shares = torch.linspace(0.1, 0.65, OBJECTS)[:, None]
    corners = extent * (1 - shares) / 2
    found = Instances(size, gt_boxes=Boxes(torch.cat([corners, corners + extent * shares], 1)))
    found.gt_classes = torch.arange(OBJECTS) % class_count(cfg)
    if cfg.MODEL.MASK_ON:
        found.gt_masks = BitMasks(torch.ones(OBJECTS, *size, dtype=torch.bool))
    if cfg.MODEL.KEYPOINT_ON:
        found.gt_keypoints = Keypoints(torch.ones(OBJECTS, cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS, 3))
    return found
