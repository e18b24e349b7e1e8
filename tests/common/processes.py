"""Run a function in several gloo processes, forked from one that has imported everything."""

import multiprocessing
import socket

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from detectron2.utils import comm

server = multiprocessing.get_context("forkserver")
server.set_forkserver_preload(["det.training", "seg.training", "common.launch"])


def run_processes(count, function, *args):
    """function(rank, count, *args) in each of count processes of one gloo group."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.start_processes(_join, (count, port, function, args), nprocs=count, start_method="forkserver")


def _join(rank, count, port, function, args):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=count)
    comm.create_local_process_group(count)
    try:
        function(rank, count, *args)
    finally:
        dist.destroy_process_group()
