"""The names of the classes of a config and of its data sets, in the order of their numbers."""

from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from densedist.common.data.flip_pairs import mirrored_classes
from densedist.common.data.sides import labeled_sets
from densedist.common.errors import UserError
from densedist.det.data.coco import read_coco
from densedist.det.data.registering import classes_of_files, is_built_in, whole_name


def known_classes(cfg: CfgNode) -> list[str] | None:
    """Return the names of the model's classes, by DATASETS.CLASSES or the first labeled data set; None = unknown."""
    if cfg.DATASETS.CLASSES:
        return list(cfg.DATASETS.CLASSES)
    return class_names(labeled_sets(cfg)[0]) if labeled_sets(cfg) else None


def declared_classes(cfg: CfgNode) -> list[str] | None:
    """Return the class names that a config declares by itself, whatever is registered on this machine; None = none.

    The model may have been trained elsewhere, and another data set be registered here under the same name.
    """
    if cfg.DATASETS.CLASSES or not labeled_sets(cfg):
        return list(cfg.DATASETS.CLASSES) or None
    name = whole_name(labeled_sets(cfg)[0])
    return class_names(name) if is_built_in(name) else classes_of_files(cfg, name)


def class_names(dataset: str) -> list[str] | None:
    """Return the class names of a registered data set, in the order of the contiguous ids; None = unknown."""
    if dataset not in DatasetCatalog:
        return None
    meta = MetadataCatalog.get(dataset)
    if names := meta.get("thing_classes"):
        return list(names)
    if not (json_file := meta.get("json_file")) or not Path(json_file).is_file():
        return None
    return read_coco(json_file).names


def class_mirrors(cfg: CfgNode) -> list[int] | None:
    """Return for each class the number of what its mirror image shows, by INPUT.FLIP_PAIRS; None where that is empty.

    Raises:
        UserError: a wrong pair; the names of the classes are unknown, or images are mirrored top to bottom.
    """
    if not (pairs := cfg.INPUT.FLIP_PAIRS):
        return None
    if cfg.INPUT.RANDOM_FLIP == "vertical":
        raise UserError("INPUT.FLIP_PAIRS is for images mirrored left to right: set INPUT.RANDOM_FLIP to horizontal")
    if (names := known_classes(cfg)) is None:
        raise UserError("INPUT.FLIP_PAIRS: the names of the classes are unknown: give them in DATASETS.CLASSES")
    return mirrored_classes(pairs, names)
