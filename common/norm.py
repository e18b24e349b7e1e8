"""Batch norm over the batch of all processes."""

import torch
from detectron2.layers.batch_norm import NaiveSyncBatchNorm
from detectron2.utils import comm
from torch import nn


def synchronize_batch_norm(model: nn.Module) -> nn.Module:
    """The model with its batch norms over the batches of all processes; as it is in a single process.

    Names and shapes of parameters and buffers stay the same. On a GPU it is PyTorch's SyncBatchNorm; without
    one, which that needs, Detectron2's.
    """
    if comm.get_world_size() == 1:
        return model
    if torch.cuda.is_available():
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for name, child in model.named_children():
        if type(child) is nn.BatchNorm2d:
            synced = NaiveSyncBatchNorm(
                child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats
            )
            synced.load_state_dict(child.state_dict())
            setattr(model, name, synced)
        else:
            synchronize_batch_norm(child)
    return model
