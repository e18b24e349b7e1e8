"""A segmentation model as a plan of its training sees it (common/plan)."""

from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode

from densedist.common.config import load, trust
from densedist.common.data.headers import Size
from densedist.common.distill.average import is_average
from densedist.common.plan.stand_in import stand_in
from densedist.common.profile import as_if_trained, random_images
from densedist.common.task import Planned
from densedist.seg.config import GRAMMAR
from densedist.seg.labels import Classes
from densedist.seg.networks.network import build_network


def planned(cfg: CfgNode, folder: Path) -> Planned:
    """Return what a plan needs; all samples are crops of one size."""
    on_cpu = cfg.clone()
    on_cpu.defrost()
    model, node = on_cpu.MODEL, on_cpu.DISTILL.TEACHER
    model.DEVICE, model.ENCODER.WEIGHTS, model.CLASS_BALANCE, model.SYNC_BN = "cpu", "", "none", False
    stand_in(on_cpu, folder, lambda config: _random_weights(on_cpu, config))
    if node.PRECISION == "auto" and node.CONFIG_FILE and not is_average(node):
        node.PRECISION = "float16"  # as on a GPU
    node.CACHE, node.COMPILE, node.STREAM = "", False, False
    height, width = cfg.INPUT.CROP_SIZE
    return Planned(
        on_cpu,
        lambda size, labeled, unlabeled: _batch(on_cpu, size, labeled, unlabeled),
        (height, width),
        (height, width),
        lambda teacher: [teacher],
    )


def _random_weights(student: CfgNode, config: str) -> dict[str, Any]:
    words = ["MODEL.DEVICE", "cpu", "MODEL.ENCODER.WEIGHTS", "", *trust.words(student)]
    cfg = load(GRAMMAR, config, words, "DISTILL.TEACHER.CONFIG_FILE", trusted=False)
    network = as_if_trained(build_network(cfg))
    heads = {} if network.aux_head is None else {"aux_head": network.aux_head.state_dict()}
    return {"model": network.smp.state_dict(), **heads}


def _batch(cfg: CfgNode, size: Size, labeled: int, unlabeled: int) -> list[dict[str, Any]]:
    """Return samples of noise, those with labels first."""
    labels = torch.randint(0, len(Classes.of(cfg)), size, generator=torch.Generator().manual_seed(0))
    return [
        {"image": image, **({"sem_seg": labels} if number < labeled else {})}
        for number, image in enumerate(random_images(size, labeled + unlabeled))
    ]
