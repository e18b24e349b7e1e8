"""A detector that learns from its own average (common/distill/average.py)."""

import copy
from typing import Any

from detectron2.config import CfgNode

from densedist.common.distill.teacher import teacher_stream
from densedist.det.teacher.teacher import DetTeacher


def average_of(student: Any, cfg: CfgNode) -> DetTeacher:
    """Return a copy of a student as its teacher, which the engine makes its average.

    Args:
        student: a Distilling that has no teacher yet.
        cfg: the student's, with this teacher alone.
    """
    model = copy.deepcopy(student)
    model.distill_cfg, model.awaits_teacher = None, False
    node = cfg.DISTILL.TEACHER
    teacher = DetTeacher(model, scale=node.INPUT_SCALE, stages=node.CASCADE_STAGES, average=model)
    teacher.stream = teacher_stream(cfg)
    return teacher
