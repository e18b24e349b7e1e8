"""Batches of Detectron2's training samples, in the order that the seed decides, and the test images one by one."""

import logging
from collections.abc import Callable, Sequence

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import (
    DatasetMapper,
    MetadataCatalog,
    build_detection_test_loader,
    get_detection_dataset_dicts,
)
from detectron2.data.build import (
    _train_loader_from_config,
    filter_images_with_only_crowd_annotations,
    print_instances_class_histogram,
)
from detectron2.data.detection_utils import check_metadata_consistency
from detectron2.data.samplers import TrainingSampler
from torch.utils.data import DataLoader, Sampler

from densedist.common.data.loader import Batches, build_loader, reading_processes
from densedist.common.data.packed import Chained, Mapped, pack
from densedist.common.data.sides import LABELED, MARK
from densedist.common.distill.sources import batches_of_sources
from densedist.common.distill.views import with_strong_views
from densedist.common.randomness import RunPosition, seeded
from densedist.det.cache.filling import training_mapper
from densedist.det.config import keys
from densedist.det.data.boxes import drop_bad_boxes
from densedist.det.data.coco import forget
from densedist.det.data.loaded import Loaded
from densedist.det.data.mosaic import mosaic
from densedist.det.data.registering import dataset_dicts
from densedist.det.data.teacher_labels import low_as_crowds

logger = logging.getLogger(__name__)


def training_batches(cfg: CfgNode) -> Callable[[RunPosition], Batches]:
    """Return a function that gives the endless batches of this process from a position on.

    The data sets are read here, once; see batches_of_sources for what a batch has. Samples of DATASETS.UNLABELED have
    no "instances".
    """
    dicts = {side: _labeled_dicts(cfg, cfg.DATASETS[side]) if cfg.DATASETS[side] else _Dicts([]) for side in LABELED}
    dicts["PSEUDO_LABELED"] = _marked(_sure(cfg, dicts["PSEUDO_LABELED"]))
    dicts["UNLABELED"] = _bare_dicts(cfg)
    forget()  # the dicts have it all
    mapper = with_strong_views(mosaic(training_mapper(cfg), cfg, dicts), cfg, "instances")

    def load(position: RunPosition, sides: Sequence[str], images: int, key: str) -> Batches:
        of_sides = Chained([dicts[side] for side in sides])
        by_shape = cfg.DATALOADER.ASPECT_RATIO_GROUPING
        wide = [wide for side in sides for wide in dicts[side].wide] if by_shape else None
        sampler = _sampler(cfg, sides, of_sides, position.seed)
        return build_loader(of_sides, mapper, sampler, cfg, position, images, key, wide)

    return lambda position: batches_of_sources(cfg, keys(), position, load)


def _sampler(cfg: CfgNode, sides: Sequence[str], dicts: Sequence[dict], seed: int) -> Sampler:
    """Return DATALOADER.SAMPLER_TRAIN of the images of some sides with labels; of others each as likely."""
    if "UNLABELED" in sides:
        return TrainingSampler(len(dicts), seed=seed)
    # Detectron2's samplers know of DATASETS.TRAIN alone, and refuse a factor of other data.
    alone = cfg.clone()
    alone.defrost()
    names = [name for side in sides for name in cfg.DATASETS[side]]
    alone.DATASETS.TRAIN = tuple(names)
    alone.DATASETS.TRAIN_REPEAT_FACTOR = [pair for pair in cfg.DATASETS.TRAIN_REPEAT_FACTOR if pair[0] in names]
    # Detectron2 has no public function from a config to a sampler alone, and seeds its samplers from NumPy.
    with seeded(seed):
        return _train_loader_from_config(alone, dataset=dicts)["sampler"]


def test_dicts(cfg: CfgNode, name: str) -> list[dict]:
    """Load the dataset dicts of a data set of DATASETS.TEST, with its proposals where the model takes some."""
    files = cfg.DATASETS.PROPOSAL_FILES_TEST
    proposals = [files[list(cfg.DATASETS.TEST).index(name)]] if cfg.MODEL.LOAD_PROPOSALS else None
    return get_detection_dataset_dicts([name], filter_empty=False, proposal_files=proposals)


def test_loader(cfg: CfgNode, dicts: Sequence[dict]) -> DataLoader:
    """Return a loader of the test images of dataset dicts one by one, each on one of the processes."""
    mapper = DatasetMapper(cfg, is_train=False)
    return build_detection_test_loader(list(dicts), mapper=mapper, num_workers=reading_processes(cfg))


class _Dicts(Chained):
    """Dataset dicts, and which of them are of images that are wider than high."""

    def __init__(self, parts: Sequence[Sequence[dict]], wide: list[bool] | None = None) -> None:
        super().__init__(parts)
        self.wide = [d["width"] > d["height"] for d in self] if wide is None else wide


def _labeled_dicts(cfg: CfgNode, names: Sequence[str]) -> _Dicts:
    """Load data sets with labels as Detectron2 does; without bad boxes where DATASETS.DROP_BAD_BOXES says so."""
    keypoints = cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE if cfg.MODEL.KEYPOINT_ON else 0
    proposals = cfg.DATASETS.PROPOSAL_FILES_TRAIN if cfg.MODEL.LOAD_PROPOSALS else None
    filtered = cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
    if cfg.DATASETS.DROP_BAD_BOXES:
        dicts = drop_bad_boxes(get_detection_dataset_dicts(names, False, keypoints, proposals))
        return _Dicts([pack(None, filter_images_with_only_crowd_annotations(dicts) if filtered else dicts)])
    if not (keypoints or proposals):
        loaded = [one for name in names if isinstance(one := dataset_dicts(name), Loaded)]
        if len(loaded) == len(names):
            return _chosen(loaded, names, filtered)
    return _Dicts([pack(None, get_detection_dataset_dicts(names, filtered, keypoints, proposals))])


def _chosen(loaded: Sequence[Loaded], names: Sequence[str], filtered: bool) -> _Dicts:
    """Return what get_detection_dataset_dicts does, and log the same, but make no dict.

    Args:
        filtered: leave out images without an object.
    """
    chosen = [np.arange(len(one)) if not filtered else one.objects.nonzero()[0] for one in loaded]
    there, left = sum(map(len, loaded)), sum(map(len, chosen))
    if filtered:
        logger.info(f"Removed {there - left} images with no usable annotations. {left} images left.")
    if classes := MetadataCatalog.get(names[0]).get("thing_classes"):
        check_metadata_consistency("thing_classes", names)
        of_each = [{"category_id": number} for number in range(len(classes))]
        counts = np.sum([one.histogram for one in loaded], 0).tolist()
        annotations = [a for a, count in zip(of_each, counts, strict=True) for _ in range(count)]
        print_instances_class_histogram([{"annotations": annotations}], classes)
    parts = [Mapped(one.__getitem__, numbers.tolist()) for one, numbers in zip(loaded, chosen, strict=True)]
    return _Dicts(parts, np.concatenate([o.wide[numbers] for o, numbers in zip(loaded, chosen, strict=True)]).tolist())


def _sure(cfg: CfgNode, dicts: _Dicts) -> _Dicts:
    """Return dicts whose labels below PSEUDO_LABELS.MIN_SCORE are no objects."""
    if not cfg.PSEUDO_LABELS.MIN_SCORE:
        return dicts
    sure = low_as_crowds(dicts, cfg.PSEUDO_LABELS.MIN_SCORE)
    filtered = cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
    return _Dicts([pack(None, filter_images_with_only_crowd_annotations(sure) if filtered else sure)])


def _marked(dicts: _Dicts) -> _Dicts:
    return _Dicts([Mapped(lambda d: d | {MARK: True}, dicts)], dicts.wide)


def _bare_dicts(cfg: CfgNode) -> _Dicts:
    """Load DATASETS.UNLABELED without annotations, whatever their classes."""
    loaded = [dataset_dicts(name) for name in cfg.DATASETS.UNLABELED]
    return _Dicts([one.bare if isinstance(one, Loaded) else pack(None, map(_bare, one)) for one in loaded])


def _bare(d: dict) -> dict:
    return {name: value for name, value in d.items() if name != "annotations"}
