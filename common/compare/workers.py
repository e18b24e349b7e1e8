"""Runs one after another, or several at a time with one GPU each."""

import gc
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import Queue, get_context
from multiprocessing.synchronize import Event
from typing import Any

import torch
from detectron2.config import CfgNode

from densedist.common.engine.launch import check_gpus, pass_on
from densedist.common.errors import UserError
from densedist.common.task import Task

# Trains a student; called with (its config, its task, True), the last to go on with what is in OUTPUT_DIR.
Train = Callable[[CfgNode, Task, bool], None]


@dataclass(frozen=True)
class Run:
    """A run to do: a config file and overrides, with OUTPUT_DIR among them."""

    config: str
    output: str
    overrides: Sequence[str]


def train_all(train: Train, task: Task, runs: Sequence[Run], jobs: int) -> None:
    """Train each, going on with what has been begun.

    Args:
        train: with several jobs one that other processes can import.
        jobs: how many at a time. With GPUs job k has GPU k, without they share the cores.

    Raises:
        UserError: of the first run that ends with one; those that are going are finished, no other is begun.
    """
    each(partial(_run, train, task), runs, jobs)


def each(do: Callable[[Any], None], items: Sequence[Any], jobs: int) -> None:
    """Call do(item) for each item, several at a time in processes.

    Args:
        do, items: with several jobs such as other processes can import.
        jobs: as of train_all.

    Raises:
        UserError: of the first that ends with one; those that are going are finished, no other is begun.
        SystemExit: of the first that ends with one, as after SIGTERM, which all of them are passed; likewise.
    """
    check_gpus(jobs, "--jobs")
    if jobs == 1:
        for item in items:
            do(item)
        return
    server = get_context("forkserver")  # never asks for a GPU, which a process that is forked could not use
    gpus = server.Queue()
    for gpu in _gpus()[:jobs] or [""] * jobs:
        gpus.put(gpu)
    before = signal.signal(signal.SIGTERM, pass_on)  # each writes a checkpoint
    stopped = server.Event()
    pool = ProcessPoolExecutor(jobs, server, _start, (gpus, max(1, torch.get_num_threads() // jobs), stopped))
    try:
        for future in [pool.submit(_do, do, item) for item in items]:
            future.result()
    except BrokenProcessPool as error:
        raise UserError("a run's process was killed: repeat the command to continue with what is missing") from error
    finally:
        pool.shutdown(cancel_futures=True)
        signal.signal(signal.SIGTERM, before)


def _gpus() -> list[str]:
    """Return the GPUs as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]


_stopped: Event  # of a process that does the work, from its start on: one of them has failed or was told to end


def _start(gpus: "Queue[str]", threads: int, stopped: Event) -> None:
    """Set up a process, before anything in it asks for a GPU."""
    global _stopped
    _stopped = stopped
    if gpu := gpus.get():
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    torch.set_num_threads(threads)


def _do(do: Callable[[Any], None], item: Any) -> None:
    """Call do(item), unless there is a reason to end. A pool hands out more items than it can take back."""
    if _stopped.is_set():
        return
    try:
        do(item)
    except BaseException:  # the exit after SIGTERM among them
        _stopped.set()
        raise


def _run(train: Train, task: Task, run: Run) -> None:
    print(f"\n=== {run.output}", flush=True)
    try:
        train(task.load_config(run.config, [*run.overrides, "OUTPUT_DIR", run.output]), task, True)
    finally:
        gc.collect()  # a trainer and its hooks know each other: the models would stay until the next collection
