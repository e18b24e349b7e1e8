"""Sums, means and rows over all processes, with gradients."""

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
    """Return the sum of x over all processes, on each of them; x itself in a single process.

    The gradient is summed likewise, so that the mean over the processes that DistributedDataParallel
    takes is the gradient of the one global loss.
    """
    return _AllReduceSum.apply(x) if _several() else x


def mean_over_processes(x: Tensor) -> Tensor:
    """Return the mean of x over all processes, on each of them; x itself in a single process."""
    return sum_over_processes(x) / dist.get_world_size() if _several() else x


def gather_from_processes(x: Tensor) -> Tensor:
    """Concatenate the rows (n, …) of all processes in the order of ranks; x itself in a single process.

    n may differ. The gradient of every row comes back to the process that it came from, summed over the
    processes as in sum_over_processes.
    """
    if not _several():
        return x
    counts = x.new_zeros(dist.get_world_size(), dtype=torch.int64)
    counts[dist.get_rank()] = len(x)
    dist.all_reduce(counts)
    before = int(counts[: dist.get_rank()].sum())
    after = int(counts.sum()) - before - len(x)
    empty = x.new_zeros(before, *x.shape[1:]), x.new_zeros(after, *x.shape[1:])
    return sum_over_processes(torch.cat([empty[0], x, empty[1]]))


def any_process(yes: bool, device: torch.device) -> bool:
    """Return whether `yes` holds on any process. In a single process the device is not waited for.

    Args:
        device: where the process group communicates: the model's.
    """
    return bool(sum_over_processes(torch.tensor(float(yes), device=device)) > 0) if _several() else yes


def _several() -> bool:
    return dist.is_available() and dist.is_initialized()
