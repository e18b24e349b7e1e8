"""The step of a PSPNet R18 that learns from DeepLabV3 R101 on Cityscapes' crops."""

import tempfile
from pathlib import Path

import torch
from detectron2.config import CfgNode

from densedist.common.benchmark.measure import as_if_trained
from densedist.common.benchmark.step import Case, faster_teachers
from densedist.common.config import load
from densedist.seg.config import GRAMMAR
from densedist.seg.models import build_segmenter, wrap
from densedist.seg.network import build_network

CONFIGS = "seg/cityscapes"
SIZE = (128, 256)
TEACHER = "deeplabv3_r101.yaml"
CLASSES = 19


def case(device: torch.device, size: tuple[int, int] | None) -> Case:
    """With random weights, on two random images.

    Args:
        size: height and width of the images; None = SIZE.
    """
    height, width = size or SIZE
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "teacher.pth"
        teacher = as_if_trained(build_network(_config(TEACHER, device)))
        assert teacher.aux_head is not None
        torch.save({"model": teacher.smp.state_dict(), "aux_head": teacher.aux_head.state_dict()}, weights)
        keys = ["DISTILL.TEACHER.CONFIG_FILE", f"{CONFIGS}/{TEACHER}"]
        keys += ["DISTILL.TEACHER.WEIGHTS", str(weights)]
        cfg = _config("pspnet_r18_dist.yaml", device, *keys)
        distilled = build_segmenter(cfg).train()
        more = {}
        for name, on in faster_teachers(device).items():
            more[name] = build_segmenter(_config("pspnet_r18_dist.yaml", device, *keys, *on)).train()
    assert distilled.distillation is not None
    taught = distilled.distillation.teacher
    alone = wrap(build_network(cfg), cfg).train()
    alone.load_state_dict(distilled.state_dict())
    images = list(torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8))
    labels = torch.randint(0, CLASSES, (2, height, width))
    with torch.no_grad():
        batch = distilled.network.preprocess(images)
        student = distilled.network(batch)
    return Case(
        f"PSPNet R18 from DeepLabV3 R101, 2 images of {(height, width)}",
        distilled,
        alone,
        [{"image": image, "sem_seg": label} for image, label in zip(images, labels, strict=True)],
        lambda: taught.output(images, student, batch.shape[2:]),
        more,
    )


def _config(file: str, device: torch.device, *overrides: str) -> CfgNode:
    keys = ["MODEL.DEVICE", device.type, "MODEL.ENCODER.WEIGHTS", "", *overrides]
    return load(GRAMMAR, f"{CONFIGS}/{file}", keys)
