"""The step of a PSPNet R18 that learns from DeepLabV3 R101 on Cityscapes' crops."""

import tempfile
from pathlib import Path

import torch

from benchmarks.seg.models import (
    NAMES,
    SIZE,
    STUDENT,
    config,
    random_images,
    random_teacher,
    samples,
    save_teacher,
)
from benchmarks.step import Case, faster_teachers
from densedist.seg.models import build_segmenter, wrap
from densedist.seg.networks.network import build_network


def case(device: torch.device, size: tuple[int, int] | None) -> Case:
    """With random weights, on two random images.

    Args:
        size: height and width of the images; None = SIZE.
    """
    size = size or SIZE
    with tempfile.TemporaryDirectory() as folder:
        keys = save_teacher(random_teacher(device), Path(folder))
        cfg = config(STUDENT, device, *keys)
        distilled = build_segmenter(cfg).train()
        more = {}
        for name, on in faster_teachers(device).items():
            more[name] = build_segmenter(config(STUDENT, device, *keys, *on)).train()
    assert distilled.distillation is not None
    taught = distilled.distillation.teacher
    alone = wrap(build_network(cfg), cfg).train()
    alone.load_state_dict(distilled.state_dict())
    images, labels = random_images(size)
    with torch.no_grad():
        batch = distilled.network.preprocess(images)
        student = distilled.network(batch)
    return Case(
        f"{NAMES}, 2 images of {size}",
        distilled,
        alone,
        samples(images, labels),
        lambda: taught.output(images, student, batch.shape[2:]),
        more,
    )
