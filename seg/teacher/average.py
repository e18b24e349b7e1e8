"""A network that learns from its own average (common/distill/average.py)."""

import copy

from detectron2.config import CfgNode

from densedist.common.distill.teacher import TeacherModel
from densedist.seg.networks.dense import DenseModel
from densedist.seg.networks.network import Network
from densedist.seg.teacher.adapting import Scaled


def average_of(student: Network, cfg: CfgNode) -> TeacherModel[DenseModel]:
    """Return a copy of a student, which the engine makes its average; it has no auxiliary head.

    Args:
        cfg: the student's, with this teacher alone.
    """
    network = copy.deepcopy(student).to(cfg.MODEL.DEVICE)
    network.aux_head, network.gives_aux = None, False
    network.own_precision = True  # in less than float32 small steps would be lost
    scale = cfg.DISTILL.TEACHER.INPUT_SCALE
    return TeacherModel(network if scale == 1 else Scaled(network, scale), False, None, network.smp)
