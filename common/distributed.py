"""Collectives whose gradient is whole."""

import torch
import torch.distributed as dist
from torch import Tensor


class _AllReduceSum(torch.autograd.Function):
    # torch.distributed.nn.functional has it too, deprecated; its successor has a gradient in new releases only.
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return _AllReduceSum.forward(ctx, gradient)


def sum_over_processes(x: Tensor) -> Tensor:
    """Sum of x over all processes, on each of them; x itself where there is only this one.

    The gradient is summed likewise, so that the mean over the processes which DistributedDataParallel
    takes is the gradient of the one global loss.
    """
    return _AllReduceSum.apply(x) if dist.is_available() and dist.is_initialized() else x


def gather_from_processes(x: Tensor) -> Tensor:
    """The rows (n, …) of all processes one below the other, in the order of the ranks; x itself if alone.

    n may differ. The gradient of every row comes back to the process that it came from, summed over the
    processes as in sum_over_processes.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return x
    counts = x.new_zeros(dist.get_world_size(), dtype=torch.int64)
    counts[dist.get_rank()] = len(x)
    dist.all_reduce(counts)
    before = int(counts[: dist.get_rank()].sum())
    after = int(counts.sum()) - before - len(x)
    empty = x.new_zeros(before, *x.shape[1:]), x.new_zeros(after, *x.shape[1:])
    return sum_over_processes(torch.cat([empty[0], x, empty[1]]))


def any_process(yes: bool | Tensor, device: torch.device) -> bool:
    """Whether `yes` holds on any process.

    Args:
        device: where the process group communicates: the model's.
    """
    return bool(sum_over_processes(torch.as_tensor(yes, device=device).float()) > 0)


def mean_over_processes(x: Tensor) -> Tensor:
    """Mean of x over all processes, on each of them; x itself where there is only this one."""
    alone = not (dist.is_available() and dist.is_initialized())
    return x if alone else sum_over_processes(x) / dist.get_world_size()


#### MERGED FROM common.once
"""What one process finds out for all of them."""

from collections.abc import Callable

from detectron2.utils import comm

from densedist.common.errors import UserError


def once(check: Callable[[], None]) -> None:
    """Run check() in the main process only, while the others wait.

    Raises:
        UserError: what check raised, in every process.
    """
    complaint = ""
    if comm.is_main_process():
        try:
            check()
        except UserError as error:
            complaint = str(error)
    if complaint := comm.all_gather(complaint)[0]:
        raise UserError(complaint)


#### MERGED FROM common.norm
"""Batch norm over the batch of all processes."""

import torch
import torch.distributed as dist
from detectron2.layers.batch_norm import NaiveSyncBatchNorm
from detectron2.utils import comm
from timm.layers import convert_sync_batchnorm
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def synchronize_batch_norm(model: nn.Module) -> nn.Module:
    """The model with its batch norms over the batches of all processes; as it is in a single process.

    Names and shapes of parameters and buffers stay the same. On a GPU it is PyTorch's SyncBatchNorm; without
    one, which that needs, Detectron2's.
    """
    if comm.get_world_size() == 1:
        return model
    if torch.cuda.is_available():
        return convert_sync_batchnorm(model)  # PyTorch's own drops the activation of timm's batch norms
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


def has_local_batch_norm(model: nn.Module) -> bool:
    """Whether processes come to have batch norm statistics of their own."""
    synced = (nn.SyncBatchNorm, NaiveSyncBatchNorm)
    return any(isinstance(layer, _BatchNorm) and not isinstance(layer, synced) for layer in model.modules())


def share_buffers(model: nn.Module) -> None:
    """Give all processes the buffers of the main one, so that all of them evaluate the same model."""
    if comm.get_world_size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)
