"""Distillation losses: two tensors (and a mask) in, one scalar out, no parameters."""

from common.losses.dist import DISTLoss
from common.losses.kd import KDLoss

__all__ = ["DISTLoss", "KDLoss"]
