"""Distillation losses: two tensors (and a mask) in, one scalar out, no parameters."""

from densedist.common.losses.attention import AttentiveMimicLoss
from densedist.common.losses.cwd import CWDLoss
from densedist.common.losses.dist import DISTLoss
from densedist.common.losses.kd import KDLoss
from densedist.common.losses.mimic import MimicLoss
from densedist.common.losses.pkd import PKDLoss
from densedist.common.losses.rkd import RKDLoss

__all__ = ["AttentiveMimicLoss", "CWDLoss", "DISTLoss", "KDLoss", "MimicLoss", "PKDLoss", "RKDLoss"]
