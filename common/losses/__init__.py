"""Distillation losses: two tensors (and a mask) in, one scalar out, no parameters."""

from common.losses.attention import AttentiveMimicLoss
from common.losses.cwd import CWDLoss
from common.losses.dist import DISTLoss
from common.losses.kd import KDLoss
from common.losses.mimic import MimicLoss
from common.losses.pkd import PKDLoss
from common.losses.rkd import RKDLoss

__all__ = ["AttentiveMimicLoss", "CWDLoss", "DISTLoss", "KDLoss", "MimicLoss", "PKDLoss", "RKDLoss"]
