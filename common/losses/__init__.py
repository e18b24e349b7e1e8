"""Distillation losses: two tensors (and a mask) in, one scalar out. None has parameters, except for FGD's relations."""

from densedist.common.losses.afdcd import AFDCDLoss
from densedist.common.losses.attention import AttentiveMimicLoss
from densedist.common.losses.box import BoxLoss, ProposalLoss
from densedist.common.losses.cirkd import CIRKDLoss
from densedist.common.losses.cross_head import CrossHeadLoss
from densedist.common.losses.cwd import CWDLoss
from densedist.common.losses.dist.loss import DISTLoss
from densedist.common.losses.dkd import DKDLoss
from densedist.common.losses.fgd import FGDLoss
from densedist.common.losses.kd import KDLoss
from densedist.common.losses.mask import MaskLoss
from densedist.common.losses.mgd import MGDLoss
from densedist.common.losses.mimic import MimicLoss
from densedist.common.losses.pkd import PKDLoss
from densedist.common.losses.rkd import RKDLoss

__all__ = [
    "AFDCDLoss",
    "AttentiveMimicLoss",
    "BoxLoss",
    "CIRKDLoss",
    "CWDLoss",
    "CrossHeadLoss",
    "DISTLoss",
    "DKDLoss",
    "FGDLoss",
    "KDLoss",
    "MGDLoss",
    "MaskLoss",
    "MimicLoss",
    "PKDLoss",
    "ProposalLoss",
    "RKDLoss",
]
