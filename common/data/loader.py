"""Training batches in an endless order that the seed alone decides, so that a run can go on at any of them."""

import os
import signal
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import cv2
import torch
from detectron2.config import CfgNode
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset

from densedist.common.data.packed import Shared, pack
from densedist.common.errors import UserError
from densedist.common.machine import cores
from densedist.common.randomness import RunPosition, seeded

Sample = dict[str, Any]
Batches = Iterable[list[Sample]]


def reading_processes(cfg: CfgNode) -> int:
    """Return how many processes read images: DATALOADER.NUM_WORKERS, but no more than there are cores.

    More would only wait for each other, and PyTorch would warn of them.
    """
    return min(cfg.DATALOADER.NUM_WORKERS, cores())


def images_per_process(cfg: CfgNode, images: int, key: str, processes: int | None = None) -> int:
    """Return how many images a process sees in a forward pass, of those of an optimizer step.

    Args:
        processes: how many share them; None = those of this run.

    Raises:
        UserError: naming the key, where they cannot be divided equally.
    """
    parts, processes = cfg.SOLVER.ACCUMULATION_STEPS, processes or comm.get_world_size()
    if images % (parts * processes):
        raise UserError(
            f"{key} is {images}: want a multiple of {parts * processes}, for {processes} process(es) "
            f"and SOLVER.ACCUMULATION_STEPS {parts}"
        )
    return images // (parts * processes)


def build_loader(
    items: Sequence[Any],
    mapper: Callable[[Any], Sample],
    indices: Iterable[int],
    cfg: CfgNode,
    position: RunPosition,
    images: int,
    key: str,
    groups: Sequence[Any] | None = None,
    collate: Callable[[list[Sample]], list[Sample]] | None = None,
) -> DataLoader:
    """Yield batches of mapped items from a position on, the same as after going through all before it.

    Args:
        mapper: makes a sample of an item; its random numbers depend on the seed and the sample's place among
            those of all processes, whatever the number of workers.
        indices: this process's endless part of the order, the same from every position.
        images: number of images of an optimizer step, over all processes.
        key: the config key that says so; it also keeps the random numbers of two loaders apart.
        groups: batches hold items of one group only, e.g. wide or tall ones.
        collate: what is done with the samples of a batch together; it draws no random numbers.

    Raises:
        UserError: images that cannot be divided equally among the processes.
    """
    name = int.from_bytes(key.encode())
    first = position.iteration * cfg.SOLVER.ACCUMULATION_STEPS
    batches = _Batches(indices, images_per_process(cfg, images, key), first, groups)
    workers = reading_processes(cfg)
    if workers:
        # Forked while threads of OpenCV's pool hold its lock, a worker would wait for it forever; and in every worker
        # a pool of its own would take all cores.
        cv2.setNumThreads(1)
    return DataLoader(
        _Seeded(items if isinstance(items, Shared) else pack(None, items), mapper, (position.seed, name)),
        batch_sampler=batches,
        num_workers=workers,
        # A fork server's would not be children of this process, and would import everything again.
        multiprocessing_context="fork" if workers else None,
        collate_fn=collate or _as_it_is,
        worker_init_fn=_outlive_signals,
        pin_memory=cfg.MODEL.DEVICE.startswith("cuda"),  # see on_device
        generator=torch.Generator(),  # for what it draws when it starts: the model's stay as they are
    )


def first_batch(batches: Batches) -> list[Sample]:
    """Return the first batch of build_loader's, Joined or Then, made in this process: no worker is started."""
    if isinstance(batches, Then):
        return first_batch(batches.first if batches.count else batches.second)
    if isinstance(batches, Joined):
        return [sample for loader in batches.loaders for sample in first_batch(loader)]
    assert isinstance(batches, DataLoader)
    assert batches.batch_sampler is not None
    return batches.collate_fn([batches.dataset[at] for at in next(iter(batches.batch_sampler))])


class Joined:
    """Batches of several endless loaders, one behind the other."""

    def __init__(self, *loaders: Batches) -> None:
        self.loaders = loaders

    def __iter__(self) -> Iterator[list[Sample]]:
        for batches in zip(*self.loaders, strict=True):
            yield [sample for batch in batches for sample in batch]


class Then:
    """So many batches of one endless loader, and then those of another."""

    def __init__(self, first: Batches, count: int, second: Batches) -> None:
        self.first, self.count, self.second = first, count, second

    def __iter__(self) -> Iterator[list[Sample]]:
        if self.count:  # or its workers would be started in vain
            yield from islice(self.first, self.count)
        yield from self.second


class _Seeded(Dataset):
    """Mapped items whose random numbers depend on key and the sample's place."""

    def __init__(self, items: Sequence[Any], mapper: Callable[[Any], Sample], key: tuple[int, ...]) -> None:
        self.items, self.mapper, self.key = items, mapper, key

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, at: tuple[int, int]) -> Sample:
        place, index = at
        with seeded(*self.key, place):
            return self.mapper(self.items[index])


class _Batches:
    """Lists of (place, index), from the batch number `first` on."""

    def __init__(self, indices: Iterable[int], size: int, first: int, groups: Sequence[Any] | None) -> None:
        self.indices, self.size, self.first, self.groups = indices, size, first, groups

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        # Going through the batches before takes no image, and seconds for millions of them.
        return islice(self._all(), self.first, None)

    def _all(self) -> Iterator[list[tuple[int, int]]]:
        rank, processes = comm.get_rank(), comm.get_world_size()
        waiting: dict[Any, list[tuple[int, int]]] = defaultdict(list)
        for number, index in enumerate(self.indices):
            batch = waiting[self.groups[index] if self.groups else None]
            batch.append((number * processes + rank, index))
            if len(batch) == self.size:
                yield batch.copy()
                batch.clear()


def _as_it_is(batch: list[Sample]) -> list[Sample]:
    return batch


def _outlive_signals(_: int) -> None:
    """Ignore SIGTERM and SIGINT: a scheduler, and a terminal at Ctrl-C, signal every process, and the last step before
    a checkpoint needs workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not hasattr(signal, "sigwaitinfo"):  # macOS does not say who sent a signal
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
