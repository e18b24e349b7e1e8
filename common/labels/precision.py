"""The precision in which a teacher labels."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from detectron2.config import CfgNode

from densedist.common.distill.teacher import precision


@contextmanager
def in_teachers_precision(cfg: CfgNode) -> Iterator[None]:
    """Compute, within the block, in DISTILL.TEACHER.PRECISION: float16 on a GPU by default.

    Weights, and steps that need it, as softmax, stay in float32.
    """
    kind = precision(cfg)
    device = torch.device(cfg.MODEL.DEVICE).type
    with torch.autocast(device, kind, enabled=kind != torch.float32):
        yield
