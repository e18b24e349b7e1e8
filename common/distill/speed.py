"""A teacher that sees each batch, made faster: its parts compiled, its batch norms fused."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from detectron2.config import CfgNode
from detectron2.layers import Conv2d as Detectron2Conv2d
from detectron2.layers import FrozenBatchNorm2d
from detectron2.layers.batch_norm import NaiveSyncBatchNorm
from timm.models import resnet as timm_resnet
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torchvision.models import resnet

from densedist.common.errors import UserError

KEY = "DISTILL.TEACHER"
Part = tuple[nn.Module, str]  # a module within another, and its name there
# The norms that are fused, by exact type: subclasses may do more; timm's, for one, also activate.
NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm, NaiveSyncBatchNorm, FrozenBatchNorm2d)
# These run conv1, bn1 (and so on) one after the other.
RESNETS = (resnet.ResNet, timm_resnet.ResNet)
BLOCKS = (resnet.BasicBlock, resnet.Bottleneck, timm_resnet.BasicBlock, timm_resnet.Bottleneck)


def compile_parts(cfg: CfgNode, parts: Sequence[Part]) -> None:
    """Replace the parts by what torch.compile makes of them, if DISTILL.TEACHER.COMPILE is True; the values are the
    same to rounding.

    Raises:
        UserError: there is no part, or the teacher does not run in training.
    """
    if not cfg.DISTILL.TEACHER.COMPILE:
        return
    refuse_with_cache(cfg, "COMPILE")
    if not parts:
        raise UserError(f"{KEY}.COMPILE: this kind of teacher cannot be compiled: set it to False")
    for owner, name in parts:
        setattr(owner, name, torch.compile(getattr(owner, name)))


def refuse_with_cache(cfg: CfgNode, key: str) -> None:
    """Refuse to make a teacher faster that does not run in training.

    Args:
        key: of DISTILL.TEACHER, for the message.

    Raises:
        UserError: DISTILL.TEACHER.CACHE is set.
    """
    if cfg.DISTILL.TEACHER.CACHE:
        raise UserError(f"{KEY}.{key}: with CACHE the teacher does not see the batches: set it to False")


def fuse_batch_norms(model: nn.Module) -> None:
    """Fuse in place what is certain to be a convolution with a batch norm after it.

    That is within Detectron2's convolutions, among neighbors in an nn.Sequential, and in torchvision's and timm's
    ResNets. In eval mode the model gives what it gave before, up to rounding: the new weights are computed in
    float64 and rounded once. It can be trained no more.
    """
    pairs = list(_pairs(model))
    uses = Counter(conv for conv, *_ in pairs)
    for conv, holder, name in pairs:
        if uses[conv] == 1:  # else one of several norms, each for another call of it
            _fuse(conv, getattr(holder, name))
            setattr(holder, name, None if holder is conv else nn.Identity())


def _pairs(model: nn.Module) -> Iterator[tuple[nn.Conv2d, nn.Module, str]]:
    """Yield each convolution, the module that holds the norm after it, and the norm's name there."""
    for module in model.modules():
        if isinstance(module, Detectron2Conv2d):
            if _is_own(module) and _fusible(module.norm):
                yield module, module, "norm"
            continue
        for first, second in _neighbors(module):
            conv = getattr(module, first, None)
            if type(conv) is nn.Conv2d and _is_own(conv) and _fusible(getattr(module, second, None)):
                yield conv, module, second


def _neighbors(module: nn.Module) -> list[tuple[str, str]]:
    """Return pairs of children's names: what the first returns goes to the second alone."""
    if type(module).forward is nn.Sequential.forward:
        return list(pairwise(name for name, _ in module.named_children()))
    stages = "1" if isinstance(module, RESNETS) else "123" if isinstance(module, BLOCKS) else ""
    return [(f"conv{stage}", f"bn{stage}") for stage in stages]


def _is_own(conv: nn.Conv2d) -> bool:
    """Return whether its weight is a parameter: weight_norm and spectral_norm compute it in every call."""
    return "weight" in dict(conv.named_parameters(recurse=False))


def _fusible(norm: nn.Module | None) -> bool:
    # Without running statistics it takes those of the batch.
    return type(norm) in NORMS and getattr(norm, "running_mean", None) is not None


@torch.no_grad()
def _fuse(conv: nn.Conv2d, norm: _BatchNorm) -> None:
    """Fuse a norm into a convolution. Detectron2's frozen norm is no _BatchNorm, but has all that is read here."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    weight, bias = fuse_conv_bn_weights(
        conv.weight.double(),
        _double(conv.bias),
        norm.running_mean.double(),
        norm.running_var.double(),
        norm.eps,
        _double(norm.weight),
        _double(norm.bias),
    )
    conv.weight.copy_(weight)
    conv.bias = nn.Parameter(bias.to(conv.weight.dtype), requires_grad=False)


def _double(values: Tensor | None) -> Tensor | None:
    return None if values is None else values.double()
