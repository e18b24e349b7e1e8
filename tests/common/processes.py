"""Run a function in several gloo processes."""

import socket

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def run_processes(count, function, *args):
    """function(rank, count, *args) in each of count processes of one gloo group."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_join, (count, port, function, args), nprocs=count)


def _join(rank, count, port, function, args):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=count)
    try:
        function(rank, count, *args)
    finally:
        dist.destroy_process_group()
