"""The step of a Faster R-CNN R50 that learns from the Cascade X101."""

import tempfile
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.utils.events import EventStorage

from benchmarks.det.models import CONFIGS, config, random_model, random_sample
from benchmarks.step import Case, faster_teachers
from densedist.common.modules import record
from densedist.det.config import without_distillation
from densedist.det.modeling import box_head
from densedist.det.models import build
from densedist.det.taps.rois import live_class_logits

SIZE = (128, 192)
TEACHER = "cascade_mask_rcnn_x101.yaml"
# Losses beside DIST.
MORE = {
    "BOX": ("DISTILL.BOX.WEIGHT", "1.0"),
    "BOX, refined": ("DISTILL.BOX.WEIGHT", "1.0", "DISTILL.BOX.STAGES", "refined"),
    "RPN": ("DISTILL.RPN.WEIGHT", "1.0"),
    "MGD": ("DISTILL.MGD.WEIGHT", "5e-7"),
}


def case(device: torch.device, size: tuple[int, int] | None) -> Case:
    """With random weights, on two random images.

    Args:
        size: height and width of the images; None = SIZE.
    """
    size = size or SIZE
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "teacher.pth"
        torch.save({"model": random_model(config(TEACHER, device)).state_dict()}, weights)
        keys = ["DISTILL.TEACHER.CONFIG_FILE", f"{CONFIGS}/{TEACHER}", "DISTILL.TEACHER.WEIGHTS", str(weights)]
        cfg = config("faster_rcnn_r50_dist.yaml", device, *keys)
        distilled = _build(cfg)
        all_more = {**MORE, **faster_teachers(device)}
        more = {name: _build(config("faster_rcnn_r50_dist.yaml", device, *keys, *all_more[name])) for name in all_more}
    alone = build(without_distillation(cfg)).train()
    alone.load_state_dict(distilled.state_dict())
    batch = [random_sample(size, seed) for seed in range(2)]
    with EventStorage(), record(box_head.pooler(distilled.roi_heads), lambda args, _: args[1]) as boxes:
        distilled(batch)
    images = [sample["image"] for sample in batch]
    name = f"Faster R-CNN R50 from Cascade X101, 2 images of {size}"
    teacher = distilled.distillation.teacher
    return Case(name, distilled, alone, batch, lambda: live_class_logits(teacher, images, boxes), more)


def _build(cfg: CfgNode) -> Any:
    torch.manual_seed(0)
    model: Any = build(cfg)
    model.attach_teacher()
    return model.train()
