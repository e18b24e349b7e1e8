"""The order of the training samples: shared out among processes, in groups, and entered anywhere."""

import multiprocessing
import os
import re
import signal
from contextlib import nullcontext, suppress
from itertools import count, cycle, islice

import cv2
import pytest
import torch
from detectron2.data.samplers import TrainingSampler
from detectron2.engine import HookBase
from detectron2.utils import comm

from densedist.common.data.loader import Joined, build_loader, images_per_process, reading_processes
from densedist.common.engine.trainer import Trainer
from densedist.common.errors import UserError
from densedist.common.randomness import RunPosition
from helpers.processes import run_processes
from helpers.tiny import defaults


def settings(**solver):
    cfg = defaults()
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.SOLVER.update(solver)
    return cfg


def test_no_more_processes_read_than_there_are_cores(monkeypatch):
    monkeypatch.setattr("densedist.common.data.loader.cores", lambda: 2)
    for wanted, started in ((0, 0), (1, 1), (4, 2)):
        cfg = settings()
        cfg.DATALOADER.NUM_WORKERS = wanted
        assert reading_processes(cfg) == started


def places(monkeypatch, rank, processes, images=4, iteration=0, batches=6):
    """The items of the first batches of a process."""
    monkeypatch.setattr(comm, "get_rank", lambda: rank)
    monkeypatch.setattr(comm, "get_world_size", lambda: processes)
    monkeypatch.setattr("densedist.common.data.loader.comm", comm)
    for name in ("get_rank", "get_world_size"):
        monkeypatch.setattr(f"detectron2.data.samplers.distributed_sampler.comm.{name}", getattr(comm, name))
    sampler = TrainingSampler(10, seed=0)
    loader = build_loader(
        range(10), lambda item: {"item": item}, sampler, settings(), RunPosition(0, iteration), images, "KEY"
    )
    return [[x["item"] for x in batch] for batch in islice(iter(loader), batches)]


def test_processes_together_see_what_one_would(monkeypatch):
    one = places(monkeypatch, 0, 1)
    two = [places(monkeypatch, rank, 2) for rank in range(2)]
    assert [sorted(a + b) for a, b in zip(*two, strict=True)] == [sorted(batch) for batch in one]


def test_start_at_any_iteration(monkeypatch):
    assert places(monkeypatch, 1, 2, iteration=4, batches=2) == places(monkeypatch, 1, 2)[4:]


def test_batches_of_one_group():
    groups = [index % 3 == 0 for index in range(9)]

    def batches(start):
        loader = build_loader(
            range(9), lambda i: {"i": i}, (i * 4 % 9 for i in count()), settings(), start, 2, "KEY", groups
        )
        return [[x["i"] for x in batch] for batch in islice(iter(loader), 12)]

    whole = batches(RunPosition(0))
    assert all(len({groups[i] for i in batch}) == 1 for batch in whole)
    assert {i for batch in whole for i in batch} == set(range(9))
    assert batches(RunPosition(0, 5))[:7] == whole[5:]


def test_images_that_cannot_be_shared_out():
    message = re.escape("KEY is 5: want a multiple of 2, for 1 process(es) and SOLVER.ACCUMULATION_STEPS 2")
    with pytest.raises(UserError, match=message):
        images_per_process(settings(ACCUMULATION_STEPS=2), 5, "KEY")


def test_worker_outlives_a_schedulers_sigterm_and_ends_with_its_trainer():
    """Also where the trainer comes from a fork server, as in compare --jobs, whose workers would not."""
    run_processes(1, _signal_the_worker)


def _signal_the_worker(rank, world):
    assert multiprocessing.get_start_method() == "forkserver"
    cfg = settings()
    cfg.DATALOADER.NUM_WORKERS = 1
    batches = iter(build_loader(range(9), _worker, cycle(range(9)), cfg, RunPosition(0), 1, "KEY"))
    worker = next(batches)[0]["process"]
    try:
        assert worker != os.getpid()
        other = multiprocessing.get_context("fork").Process(target=os.kill, args=(worker, signal.SIGTERM))
        other.start()
        other.join()
        assert {batch[0]["process"] for batch in islice(batches, 5)} == {worker}
        os.kill(worker, signal.SIGTERM)
        _, status = os.waitpid(worker, 0)
        assert os.waitstatus_to_exitcode(status) == 0
    finally:
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)


def test_worker_has_one_thread_of_opencv_and_is_forked_where_there_is_no_more():
    """A pool's lock that a thread holds just then would never be given back in the worker, which waited for it."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    try:
        cfg = settings()
        cfg.DATALOADER.NUM_WORKERS = 1
        loader = build_loader(range(9), _threads, cycle(range(9)), cfg, RunPosition(0), 1, "KEY")
        assert cv2.getNumThreads() == 1
        assert next(iter(loader))[0] == {"opencv": 1}
    finally:
        cv2.setNumThreads(before)


def _threads(_):
    return {"opencv": cv2.getNumThreads()}


def _worker(_):
    return {"process": os.getpid()}


@pytest.mark.parametrize("fails", [False, True])
def test_workers_end_with_the_training(fails):
    """They are told to, and not left to the garbage collector."""
    cfg = settings()
    cfg.DATALOADER.NUM_WORKERS = 1

    def batches():
        return build_loader(range(9), _worker, cycle(range(9)), cfg, RunPosition(0), 1, "KEY")

    class Recorder(HookBase):
        def after_step(self):
            workers.extend(set(multiprocessing.active_children()) - others)
            assert not fails, "a hook"

    workers, others = [], set(multiprocessing.active_children())
    trainer = Trainer(_Model(), torch.optim.SGD([torch.ones(())]))
    trainer.reset_data_loader(lambda: Joined(batches(), batches()))
    trainer.register_hooks([Recorder()])
    with pytest.raises(AssertionError, match="a hook") if fails else nullcontext():
        trainer.train(0, 1)
    assert [worker.is_alive() for worker in workers] == [False, False]


class _Model(torch.nn.Linear):
    def __init__(self):
        super().__init__(1, 1)

    def forward(self, batch):
        return {"loss": self.weight.sum()}
