"""Images without labels beside, or instead of, labelled ones."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from detectron2.config import CfgNode

from common.distiller import is_on
from common.errors import UserError

Batches = Iterable[list[dict[str, Any]]]


class Joined:
    """Batches of two endless loaders, one behind the other."""

    def __init__(self, first: Batches, second: Batches) -> None:
        self.loaders = first, second

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        for batches in zip(*self.loaders, strict=True):
            yield [sample for batch in batches for sample in batch]


def join(cfg: CfgNode, labelled: Callable[[int], Batches], unlabelled: Callable[[int], Batches]) -> Batches:
    """The training batches of DATASETS.TRAIN and DATASETS.UNLABELED.

    Args:
        labelled, unlabelled: make a loader of that many images per batch, over all processes.

    Raises:
        UserError: no data at all, or images without labels and nothing to learn from them.
    """
    count = cfg.SOLVER.IMS_PER_BATCH
    if not cfg.DATASETS.UNLABELED:
        if not cfg.DATASETS.TRAIN:
            raise UserError("DATASETS.TRAIN is empty: name the training data")
        return labelled(count)
    if not is_on(cfg.DISTILL):
        raise UserError("DATASETS.UNLABELED is set, but there is no teacher: set DISTILL.TEACHER and a loss")
    extra = cfg.SOLVER.UNLABELED_IMS_PER_BATCH or count
    return Joined(labelled(count), unlabelled(extra)) if cfg.DATASETS.TRAIN else unlabelled(extra)
