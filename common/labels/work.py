"""The loop of a labeling: this process's part of the images, shard by shard."""

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

from detectron2.utils import comm

from densedist.common.errors import UserError
from densedist.common.labeling import Labeling
from densedist.common.labels.loading import EACH, Item, Read, by_size, load
from densedist.common.labels.progress import Progress
from densedist.common.labels.shards import Shards

LISTED = 10  # unreadable images that are shown; all are in the record

Entry = dict[str, Any]  # what a shard has of an image, as plain data
Unreadable = list[tuple[str, str]]  # files and why


def fill_shards(
    shards: Shards,
    labeling: Labeling,
    names: Sequence[str],
    read: Read,
    see: Callable[[Sequence[Item]], Sequence[Entry]],
    workers: int,
    settle: Callable[[], None] | None = None,
) -> bool:
    """Label the images that no shard has; each process takes every n-th of the missing shards.

    Args:
        names: for what is written about each image.
        read: see common.labels.loading.
        see: labels images of one size; their entries, in order.
        workers: most processes that read ahead.
        settle: called before a shard is written: lets the disk have what `see` has written.

    Returns:
        whether this is the main process, which goes on once all shards are there.

    Raises:
        UserError: more images than labeling.most_unreadable allows cannot be read, or a full disk.
    """
    mine = list(shards.missing[comm.get_rank() :: comm.get_world_size()])
    files = list(labeling.images.values())
    items = (Item(n, names[n], str(files[n])) for shard in mine for n in shards.numbers(shard))
    workers = min(workers, sum(len(shards.numbers(shard)) for shard in mine) // EACH)
    progress, failed = Progress(shards.images, shards.written), 0
    for shard, its_items in groupby(load(items, read, workers), lambda item: item.number // shards.size):
        start = time.perf_counter()
        unreadable: Unreadable = []
        entries: dict[int, Entry] = {}
        for group in by_size(_readable(its_items, unreadable), labeling.batch):
            entries |= zip((item.number for item in group), see(group), strict=True)
            progress.update(len(entries))
        failed += len(unreadable)
        try:
            refuse_many(unreadable, failed, labeling)
        except UserError:
            if comm.get_world_size() == 1 and not shards.written():
                shards.remove()  # nothing is lost
            raise
        if settle is not None:
            settle()
        images = [entries[number] for number in sorted(entries)]
        shards.write(shard, {"images": images, "unreadable": unreadable, "seconds": time.perf_counter() - start})
    if comm.is_main_process():
        shards.wait(progress.update)
    progress.close()
    return comm.is_main_process()


def _readable(items: Iterator[Item], unreadable: Unreadable) -> Iterator[Item]:
    """Yield the items that have a sample; the others are added to unreadable."""
    for item in items:
        if item.problem:
            unreadable.append((item.file, item.problem))
        else:
            yield item


def refuse_many(unreadable: Unreadable, count: int, labeling: Labeling) -> None:
    """Refuse images of which too many cannot be read.

    Args:
        unreadable: some of them.
        count: how many cannot be read.

    Raises:
        UserError: naming the first one.
    """
    total, most = len(labeling.images), labeling.most_unreadable
    if unreadable and count > most * total:
        if total == 1:
            raise UserError(unreadable[0][1])
        raise UserError(
            f"{count} of {total} images cannot be read, first {unreadable[0][1]}: mend or remove them, or allow more "
            f"than {most:g} of all by --max-unreadable"
        )


def all_unreadable(shards: Shards, labeling: Labeling) -> Unreadable:
    """Return the images that could not be read.

    Raises:
        UserError: there are too many.
    """
    found = [(file, why) for content in shards.read() for file, why in content["unreadable"]]
    refuse_many(found, len(found), labeling)
    return found


def in_words(unreadable: Unreadable) -> str:
    """Return which images have no labels, in lines; "" if there are none."""
    if not unreadable:
        return ""
    rest = ["  … all of them are in labels.json"] if len(unreadable) > LISTED else []
    lines = [f"  {why}" for _, why in unreadable[:LISTED]]
    several = len(unreadable) > 1
    head = f"{len(unreadable)} images cannot be read and have" if several else "1 image cannot be read and has"
    return "\n".join([f"{head} no labels:", *lines, *rest, ""])
