"""Trainings one after another, or several at a time, each on a GPU of its own."""

import argparse
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import Queue, get_context

import torch

from densedist.common.errors import UserError
from densedist.common.engine.launch import check_gpus, parser, pass_on

# Each a command line of train_det.py or train_seg.py.
Commands = Sequence[Sequence[str]]


def train_all(train: Callable[[argparse.Namespace], None], commands: Commands, jobs: int) -> None:
    """Run train with the arguments of each command.

    Args:
        train: a task's main; with several jobs one that other processes can import.
        jobs: how many at a time. With GPUs job k has GPU k, without they share the cores.

    Raises:
        UserError: of the first training that ends with one; those that run are finished, no other is begun.
    """
    check_gpus(jobs, "--jobs")
    if jobs == 1:
        for command in commands:
            _run(train, command)
        return
    server = get_context("forkserver")  # never asks for a GPU, which a process that is forked could not use
    gpus = server.Queue()
    for gpu in _gpus()[:jobs] or [""] * jobs:
        gpus.put(gpu)
    before = signal.signal(signal.SIGTERM, pass_on)  # each writes a checkpoint
    pool = ProcessPoolExecutor(jobs, server, _start, (gpus, max(1, torch.get_num_threads() // jobs)))
    try:
        for future in [pool.submit(_run, train, command) for command in commands]:
            future.result()
    except BrokenProcessPool as error:
        raise UserError("a training's process was killed: the same command goes on with what is missing") from error
    finally:
        pool.shutdown(cancel_futures=True)
        signal.signal(signal.SIGTERM, before)


def _gpus() -> list[str]:
    """As CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]


def _start(gpus: "Queue[str]", threads: int) -> None:
    """Once in each process, before anything asks for a GPU."""
    if gpu := gpus.get():
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    torch.set_num_threads(threads)


def _run(train: Callable[[argparse.Namespace], None], command: Sequence[str]) -> None:
    output = command[command.index("OUTPUT_DIR") + 1]
    print(f"\n=== {output}", flush=True)
    train(parser("").parse_args(list(command)))
