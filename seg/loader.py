"""Batches of training samples, in the order that the seed decides, and the test frames one by one."""

from collections.abc import Callable, Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader
from detectron2.data.samplers import TrainingSampler
from torch.utils.data import DataLoader

from densedist.common.data.confidence import Confidence
from densedist.common.data.loader import Batches, build_loader, reading_processes
from densedist.common.data.sides import TRAINED
from densedist.common.distill.registry import is_on
from densedist.common.distill.sources import batches_of_sources
from densedist.common.distill.views import with_strong_views
from densedist.common.randomness import RunPosition
from densedist.seg.cache import CachedReader, open_cache
from densedist.seg.config import keys
from densedist.seg.data.cutmix import Boxes, check_partners, mix
from densedist.seg.data.frames import Frame
from densedist.seg.data.reading import Reader
from densedist.seg.data.transforms import training_transform
from densedist.seg.datasets import SIDES
from densedist.seg.labels import Classes


def training_batches(cfg: CfgNode) -> Callable[[RunPosition], Batches]:
    """Return a function that gives the endless batches of this process from a position on.

    The frames are listed here, once; see batches_of_sources for what a batch has.
    """
    reader = _training_reader(cfg)
    frames = {side: SIDES[side](cfg) for side in TRAINED}

    def load(position: RunPosition, sides: Sequence[str], images: int, key: str) -> Batches:
        if any(frames[side] for side in sides if side != "TRAIN"):
            check_partners(cfg, images, key)
        dataset = [frame for side in sides for frame in frames[side]]
        sampler = TrainingSampler(len(dataset), seed=position.seed)
        return build_loader(dataset, reader, sampler, cfg, position, images, key, collate=mix)

    return lambda position: batches_of_sources(cfg, keys(), position, load)


def _training_reader(cfg: CfgNode) -> Callable[[Frame], dict[str, Any]]:
    classes, channels, transform = Classes.of(cfg), cfg.INPUT.FORMAT, training_transform(cfg)
    confidence = Confidence.of(cfg)
    read: Callable[[Frame], dict[str, Any]] = Reader(classes, channels, transform, confidence)
    if cfg.DISTILL.TEACHER.CACHE and is_on(cfg.DISTILL):
        read = CachedReader(Reader(classes, channels, confidence=confidence), transform, open_cache(cfg))
    read = with_strong_views(read, cfg, "sem_seg")
    return Boxes(read, cfg.PSEUDO_LABELS.CUTMIX) if cfg.PSEUDO_LABELS.CUTMIX else read


def test_loader(cfg: CfgNode, dataset: Sequence[Frame]) -> DataLoader:
    """Return a loader of the samples of frames one by one, each on one of the processes."""
    reader = Reader(Classes.of(cfg), cfg.INPUT.FORMAT)
    return build_detection_test_loader(list(dataset), mapper=reader, num_workers=reading_processes(cfg))
