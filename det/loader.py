"""Batches of Detectron2's training samples, in the order that the seed decides, and the test images one by one."""

from collections.abc import Callable, Sequence

from detectron2.config import CfgNode
from detectron2.data import (
    DatasetCatalog,
    DatasetMapper,
    build_detection_test_loader,
    get_detection_dataset_dicts,
)
from detectron2.data.build import _train_loader_from_config, filter_images_with_only_crowd_annotations
from detectron2.data.samplers import TrainingSampler
from torch.utils.data import DataLoader, Sampler

from densedist.common.data.loader import Batches, build_loader
from densedist.common.distill.unlabeled import labeled_and_unlabeled
from densedist.common.randomness import RunPosition, seeded
from densedist.det.cache.filling import training_mapper
from densedist.det.data.boxes import drop_bad_boxes
from densedist.det.data.coco import forget


def training_batches(cfg: CfgNode) -> Callable[[RunPosition], Batches]:
    """Return a function that gives the endless batches of this process from a position on.

    SOLVER.IMS_PER_BATCH of DATASETS.TRAIN and, where it is set, SOLVER.UNLABELED_IMS_PER_BATCH of
    DATASETS.UNLABELED, whose samples have no "instances". The data sets are read here, once.
    """
    dicts = _labeled_dicts(cfg) if cfg.DATASETS.TRAIN else []
    bare = _bare_dicts(cfg) if cfg.DATASETS.UNLABELED else []
    forget()  # the dicts have it all
    mapper = training_mapper(cfg)

    def batches(dicts: Sequence[dict], sampler: Sampler, position: RunPosition, images: int, key: str) -> Batches:
        by_shape = cfg.DATALOADER.ASPECT_RATIO_GROUPING
        wide = [d["width"] > d["height"] for d in dicts] if by_shape else None
        return build_loader(dicts, mapper, sampler, cfg, position, images, key, wide)

    def from_position(position: RunPosition) -> Batches:
        def labeled(images: int) -> Batches:
            # Detectron2 has no public function from a config to a sampler alone, and seeds its samplers from NumPy.
            with seeded(position.seed):
                sampler = _train_loader_from_config(cfg, dataset=dicts)["sampler"]
            return batches(dicts, sampler, position, images, "SOLVER.IMS_PER_BATCH")

        def unlabeled(images: int) -> Batches:
            sampler = TrainingSampler(len(bare), seed=position.seed)
            return batches(bare, sampler, position, images, "SOLVER.UNLABELED_IMS_PER_BATCH")

        return labeled_and_unlabeled(cfg, labeled, unlabeled)

    return from_position


def test_dicts(cfg: CfgNode, name: str) -> list[dict]:
    """Load the dataset dicts of a data set of DATASETS.TEST, with its proposals where the model takes some."""
    files = cfg.DATASETS.PROPOSAL_FILES_TEST
    proposals = [files[list(cfg.DATASETS.TEST).index(name)]] if cfg.MODEL.LOAD_PROPOSALS else None
    return get_detection_dataset_dicts([name], filter_empty=False, proposal_files=proposals)


def test_loader(cfg: CfgNode, dicts: Sequence[dict]) -> DataLoader:
    """Return a loader of the test images of dataset dicts one by one, each on one of the processes."""
    mapper = DatasetMapper(cfg, is_train=False)
    return build_detection_test_loader(list(dicts), mapper=mapper, num_workers=cfg.DATALOADER.NUM_WORKERS)


def _labeled_dicts(cfg: CfgNode) -> list[dict]:
    """Load DATASETS.TRAIN as Detectron2 does; without bad boxes where DATASETS.DROP_BAD_BOXES says so."""
    keypoints = cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE if cfg.MODEL.KEYPOINT_ON else 0
    proposals = cfg.DATASETS.PROPOSAL_FILES_TRAIN if cfg.MODEL.LOAD_PROPOSALS else None
    filtered = cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
    if not cfg.DATASETS.DROP_BAD_BOXES:
        return get_detection_dataset_dicts(cfg.DATASETS.TRAIN, filtered, keypoints, proposals)
    dicts = drop_bad_boxes(get_detection_dataset_dicts(cfg.DATASETS.TRAIN, False, keypoints, proposals))
    return filter_images_with_only_crowd_annotations(dicts) if filtered else dicts


def _bare_dicts(cfg: CfgNode) -> list[dict]:
    """Load DATASETS.UNLABELED without annotations, whatever their classes."""
    dicts = [d for name in cfg.DATASETS.UNLABELED for d in DatasetCatalog.get(name)]
    return [{name: value for name, value in d.items() if name != "annotations"} for d in dicts]
