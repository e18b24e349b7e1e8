"""Data sets by name: Detectron2's own, the digits scenes, and any in COCO form named in the config."""

import difflib
import json
from collections.abc import Sequence
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog, get_detection_dataset_dicts
from detectron2.data.build import _train_loader_from_config
from detectron2.data.datasets import load_coco_json, register_coco_instances
from detectron2.data.detection_utils import SizeMismatchError
from detectron2.data.samplers import TrainingSampler
from torch.utils.data import Sampler

from densedist.common.data import digits
from densedist.common.data.loader import Batches, build_loader, labeled_and_unlabeled
from densedist.common.errors import UserError
from densedist.common.randomness import RunPosition, seeded
from densedist.det.annotations import labeled_dicts
from densedist.det.distilling import count_classes


def register_digits() -> None:
    """Register digits_train, digits_train_60, digits_val and digits_test; made when first loaded."""
    for split in digits.SPLITS:
        name = f"digits_{split}"
        if name in DatasetCatalog:  # det is imported as a package of a checkout, too
            continue
        DatasetCatalog.register(name, lambda name=name, split=split: _load_digits(name, split))
        meta = MetadataCatalog.get(name)
        meta.set(json_file=str(digits.annotations(split)), image_root=str(digits.images(split)))
        meta.set(evaluator_type="coco", thing_classes=list(digits.CLASSES))


def _load_digits(name: str, split: str) -> list[dict]:
    digits.ensure()
    return load_coco_json(str(digits.annotations(split)), str(digits.images(split)), name)


def register_coco_format(cfg: CfgNode) -> None:
    """Register the data sets of DATASETS.COCO_FORMAT: [name, JSON file, image folder] each.

    Raises:
        UserError: an entry of another form, or a name that is another data set already.
    """
    for entry in cfg.DATASETS.COCO_FORMAT:
        if not (isinstance(entry, (list, tuple)) and len(entry) == 3 and all(isinstance(x, str) for x in entry)):
            raise UserError(f"DATASETS.COCO_FORMAT: {entry} is not [name, JSON file, image folder]")
        name, json_file, image_root = entry
        if name not in DatasetCatalog:
            register_coco_instances(name, {}, json_file, image_root)
        meta = MetadataCatalog.get(name)
        if (meta.get("json_file"), meta.get("image_root")) != (json_file, image_root):
            raise UserError(f"DATASETS.COCO_FORMAT: {name} is the name of another data set")


def training_batches(cfg: CfgNode, position: RunPosition) -> Batches:
    """Endless batches of Detectron2's training samples, divided among the processes, from a position on.

    SOLVER.IMS_PER_BATCH of DATASETS.TRAIN and, where it is set, SOLVER.UNLABELED_IMS_PER_BATCH of
    DATASETS.UNLABELED, whose samples have no "instances".
    """

    def batches(dicts: Sequence[dict], sampler: Sampler, images: int, key: str) -> Batches:
        by_shape = cfg.DATALOADER.ASPECT_RATIO_GROUPING
        wide = [d["width"] > d["height"] for d in dicts] if by_shape else None
        return build_loader(dicts, Mapper(cfg, is_train=True), sampler, cfg, position, images, key, wide)

    def labeled(images: int) -> Batches:
        with seeded(position.seed):  # Detectron2 seeds its samplers from NumPy's random numbers
            parts = _train_loader_from_config(cfg, dataset=labeled_dicts(cfg))
        return batches(parts["dataset"], parts["sampler"], images, "SOLVER.IMS_PER_BATCH")

    def unlabeled(images: int) -> Batches:
        dicts = get_detection_dataset_dicts(list(cfg.DATASETS.UNLABELED), filter_empty=False)
        bare = [{name: value for name, value in d.items() if name != "annotations"} for d in dicts]
        sampler = TrainingSampler(len(bare), seed=position.seed)
        return batches(bare, sampler, images, "SOLVER.UNLABELED_IMS_PER_BATCH")

    return labeled_and_unlabeled(cfg, labeled, unlabeled)


class Mapper(DatasetMapper):
    """Detectron2's, with an image that cannot be read said in one line."""

    def __call__(self, dataset_dict: dict) -> dict:
        """
        Raises:
            UserError: naming the image.
        """
        try:
            return super().__call__(dataset_dict)
        except (OSError, SyntaxError, SizeMismatchError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{dataset_dict['file_name']} cannot be read as its data set says: {reason}") from error


def check_datasets(cfg: CfgNode) -> list[str]:
    """Make sure that every data set of the config can be read and has the model's number of classes.

    Returns:
        the names of the classes; empty if they are unknown.

    Raises:
        UserError: an unknown name, a missing annotation file or image folder, a wrong class count, categories
            that differ between training and test.
    """
    register_coco_format(cfg)
    for key in ("TRAIN", "UNLABELED", "TEST"):
        for name in cfg.DATASETS[key]:
            _check_dataset(name, f"DATASETS.{key}", *count_classes(cfg))
    return _check_same_categories(cfg)


def test_dataset(cfg: CfgNode) -> str:
    """The first data set of DATASETS.TEST; those of training may be gone.

    Raises:
        UserError: there is none, or its files are not there.
    """
    if not cfg.DATASETS.TEST:
        raise UserError("DATASETS.TEST is empty: name a data set")
    return with_test_alone(cfg).DATASETS.TEST[0]


def with_test_alone(cfg: CfgNode) -> CfgNode:
    """A copy of cfg with the data sets of DATASETS.TEST only, checked.

    Raises:
        UserError: as check_datasets.
    """
    alone = cfg.clone()
    alone.defrost()
    alone.DATASETS.TRAIN, alone.DATASETS.UNLABELED = (), []
    check_datasets(alone)
    return alone


def _check_same_categories(cfg: CfgNode) -> list[str]:
    """The names of the classes.

    Training names the outputs by their numbers; another order in the test set would score them as wrong.
    """
    datasets = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]
    known = [(f"data set {name}", names) for name in datasets if (names := class_names([name])) is not None]
    if cfg.DATASETS.CLASSES:
        count, key = count_classes(cfg)
        if len(cfg.DATASETS.CLASSES) != count:
            raise UserError(f"{key} is {count}, but DATASETS.CLASSES has {len(cfg.DATASETS.CLASSES)} names")
        known.insert(0, ("DATASETS.CLASSES", list(cfg.DATASETS.CLASSES)))
    for name, names in known[1:]:
        for number, (one, other) in enumerate(zip(known[0][1], names, strict=True)):
            if one != other:
                raise UserError(
                    f"DATASETS: category {number}, by the order of ids, is {one} in {known[0][0]}, {other} "
                    f"in {name}: give both the same categories with the same ids"
                )
    return known[0][1] if known else []


def _check_dataset(name: str, key: str, num_classes: int, classes_key: str) -> None:
    if name not in DatasetCatalog:
        near = difflib.get_close_matches(str(name), DatasetCatalog.list(), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "name it in DATASETS.COCO_FORMAT"
        raise UserError(f"{key}: there is no data set {name}; {hint}")
    if name.startswith("digits_"):
        digits.ensure()
    meta = MetadataCatalog.get(name)
    hint = "" if name.startswith("digits_") else " (built-in data sets lie under $DETECTRON2_DATASETS, or ./datasets)"
    if (json_file := meta.get("json_file")) and not Path(json_file).is_file():
        raise UserError(f"{key}: data set {name} has no annotation file {json_file}{hint}")
    if (image_root := meta.get("image_root")) and not Path(image_root).is_dir():
        raise UserError(f"{key}: data set {name} has no image folder {image_root}{hint}")
    names = class_names([name])
    if names is not None and len(names) != num_classes:
        raise UserError(f"{classes_key} is {num_classes}, but data set {name} has {len(names)} classes")


def known_classes(cfg: CfgNode) -> list[str] | None:
    """The class names of the config's model, in the order of their numbers; None if they are unknown."""
    return list(cfg.DATASETS.CLASSES) or class_names(cfg.DATASETS.TRAIN)


def class_labels(cfg: CfgNode) -> tuple[str, ...]:
    """A name for each class of the config's model: "class 3" where it is unknown."""
    return tuple(known_classes(cfg) or [f"class {n}" for n in range(count_classes(cfg)[0])])


def class_names(datasets: Sequence[str]) -> list[str] | None:
    """The class names of the first data set, in the order of the contiguous ids; None if it is unknown."""
    if not datasets or datasets[0] not in DatasetCatalog:
        return None
    meta = MetadataCatalog.get(datasets[0])
    if names := meta.get("thing_classes"):
        return list(names)
    if not (json_file := meta.get("json_file")) or not Path(json_file).is_file():
        return None
    try:
        categories = json.loads(Path(json_file).read_text())["categories"]
        return [category["name"] for category in sorted(categories, key=lambda c: c["id"])]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{json_file} is no COCO JSON file: {type(error).__name__}: {error}") from error
