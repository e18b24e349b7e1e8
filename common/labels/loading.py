"""Images for teachers that label them: read ahead by workers, and put together by size."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import cv2
from torch.utils.data import DataLoader, Dataset

from densedist.common.data.images import DamagedError
from densedist.common.errors import UserError

WAITING = 4  # batches whose images wait for others of their size, at most
EACH = 16  # images for each worker, at least: for fewer it is not started


@dataclass(frozen=True)
class Item:
    """An image to label.

    Args:
        number: from 0, among all.
        name: for what is written about it.
        file: its path.
        sample: what the teachers take.
        size: of what they take; those of one size may be seen together.
        problem: why it cannot be read; "" if it can.
    """

    number: int
    name: str
    file: str
    sample: Any = None
    size: Any = None
    problem: str = ""


Read = Callable[[str], tuple[Any, Any]]  # of a file, what the teachers take, and its size


def load(items: Iterable[Item], read: Read, workers: int) -> Iterator[Item]:
    """Yield items with their samples, in order.

    Args:
        read: called in the workers; what it raises as UserError or DamagedError is the item's problem.
        workers: processes that read ahead; 0 = none.
    """
    if workers:
        cv2.setNumThreads(1)  # see build_loader in common/data/loader.py
    yield from DataLoader(
        _Reading(read),
        batch_size=None,
        sampler=items,
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,
        collate_fn=_as_it_is,
    )


class _Reading(Dataset):
    """Items with their samples, by the items themselves: a worker has no list of them."""

    def __init__(self, read: Read) -> None:
        self.read = read

    def __getitem__(self, item: Item) -> Item:
        try:
            sample, size = self.read(item.file)
        except (UserError, DamagedError) as error:
            return replace(item, problem=str(error))
        return replace(item, sample=sample, size=size)


def _as_it_is(item: Any) -> Any:
    return item


def by_size(items: Iterable[Item], most: int) -> Iterator[list[Item]]:
    """Yield lists of items of one size, so many at the most.

    A list that is not full is held back for others of its size, while not too many wait.
    """
    waiting: dict[Any, list[Item]] = {}
    for item in items:
        group = waiting.setdefault(item.size, [])
        group.append(item)
        if len(group) == most:
            yield waiting.pop(item.size)
        elif sum(map(len, waiting.values())) > WAITING * most:
            yield waiting.pop(next(iter(waiting)))  # the oldest
    yield from waiting.values()
