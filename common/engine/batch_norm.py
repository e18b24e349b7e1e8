"""Batch norm over the batch of all processes."""

import torch
import torch.distributed as dist
from detectron2.layers.batch_norm import NaiveSyncBatchNorm
from detectron2.utils import comm
from timm.layers import BatchNormAct2d, convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class NaiveSyncBatchNormAct(NaiveSyncBatchNorm):
    """Detectron2's, with what timm's batch norms do after the normalization: dropout and activation."""

    drop: nn.Module
    act: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(x)))


def synchronize_batch_norm(model: nn.Module) -> nn.Module:
    """Return the model with batch norm over the batches of all processes; unchanged in one process.

    Names and shapes of parameters and buffers stay the same. On a GPU it is PyTorch's SyncBatchNorm; without
    one, which that needs, Detectron2's. The activation of timm's batch norms stays.
    """
    if comm.get_world_size() == 1:
        return model
    if torch.cuda.is_available():
        return convert_sync_batchnorm(model)  # PyTorch's own drops the activation of timm's batch norms
    for name, child in model.named_children():
        if type(child) in (nn.BatchNorm2d, BatchNormAct2d):
            kind = NaiveSyncBatchNorm if type(child) is nn.BatchNorm2d else NaiveSyncBatchNormAct
            synced = kind(child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats)
            if isinstance(child, BatchNormAct2d):
                synced.drop, synced.act = child.drop, child.act
            synced.load_state_dict(child.state_dict())
            setattr(model, name, synced)
        else:
            synchronize_batch_norm(child)
    return model


def has_local_batch_norm(model: nn.Module) -> bool:
    """Return whether the processes would have different batch norm statistics."""
    synced = (nn.SyncBatchNorm, NaiveSyncBatchNorm)
    return any(isinstance(layer, _BatchNorm) and not isinstance(layer, synced) for layer in model.modules())


def share_buffers(model: nn.Module) -> None:
    """Give all processes the buffers of the main one, so that all of them evaluate the same model."""
    if comm.get_world_size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)
