"""Data sets by name: Detectron2's own, the digits scenes, and any in COCO form named in the config."""

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import builtin
from detectron2.structures import BoxMode

from densedist.common.data import digits
from densedist.common.errors import UserError
from densedist.det.data.coco import Coco, Entry, read_coco
from densedist.det.distilling import count_classes

Part = tuple[int | None, int | None]  # where it starts and stops among the images
_SPLITS = (builtin._PREDEFINED_SPLITS_COCO, builtin._PREDEFINED_SPLITS_LVIS)
# The data sets that Detectron2 registers itself.
BUILT_IN = frozenset(
    [
        *(name for splits in _SPLITS for group in splits.values() for name in group),
        *(f"voc_{year}_{split}" for year in (2007, 2012) for split in ("trainval", "train", "val", "test")),
    ]
)

# A part of a data set, as in vehicles_train[:100].
PART = re.compile(r"(.+)\[(\d*):(\d*)\]")

# By the rules of a data set, the package that reads or scores it and need not be here.
PACKAGES: Mapping[str, str] = {"lvis": "lvis", "cityscapes_instance": "cityscapesscripts"}


def register_digits() -> None:
    """Register digits_train, digits_train_60, digits_val and digits_test; made when first loaded."""
    for split in digits.SPLITS:
        name = f"digits_{split}"
        if name not in DatasetCatalog:  # det is imported as a package of a checkout, too
            _register(name, str(digits.annotations(split)), str(digits.images(split)))
            MetadataCatalog.get(name).set(thing_classes=list(digits.CLASSES))


def _register(name: str, json_file: str, image_root: str, part: Part = (None, None)) -> None:
    DatasetCatalog.register(name, lambda: _load(name, json_file, image_root, part))
    meta = MetadataCatalog.get(name)
    meta.set(json_file=json_file, image_root=image_root, evaluator_type="coco", normalized=True, part=part)


def _load(name: str, json_file: str, image_root: str, part: Part) -> list[dict]:
    """Detectron2's dataset dicts, in the order of the images' ids."""
    if name.startswith("digits_"):
        digits.ensure()
    coco = read_coco(json_file).part(*part)
    classes = {category["id"]: number for number, category in enumerate(coco.categories)}
    MetadataCatalog.get(name).set(thing_classes=coco.names, thing_dataset_id_to_contiguous_id=classes)
    dicts = {
        image["id"]: {
            "file_name": os.path.join(image_root, image["file_name"]),
            "height": image["height"],
            "width": image["width"],
            "image_id": image["id"],
            "annotations": [],
        }
        for image in coco.images
    }
    for annotation in coco.annotations:
        kept: Entry = {key: annotation[key] for key in ("iscrowd", "bbox", "segmentation") if key in annotation}
        kept |= {"category_id": classes[annotation["category_id"]], "bbox_mode": BoxMode.XYWH_ABS}
        dicts[annotation["image_id"]]["annotations"].append(kept)
    return list(dicts.values())


def ground_truth(name: str) -> Coco | None:
    """That of a data set in COCO form; None of another form, and of those that Detectron2 knows by itself.

    Raises:
        UserError: as read_coco.
    """
    meta = MetadataCatalog.get(name)
    if name in BUILT_IN or meta.get("evaluator_type") != "coco" or not (json_file := meta.get("json_file")):
        return None
    return read_coco(json_file).part(*meta.get("part", (None, None)))


def register_coco_format(cfg: CfgNode) -> None:
    """Register the data sets of DATASETS.COCO_FORMAT, [name, JSON file, image folder] each, and parts that are named.

    Raises:
        UserError: an entry of another form, a name that is another data set already, or a part of a data set that is
            not in COCO form.
    """
    for entry in cfg.DATASETS.COCO_FORMAT:
        if not (isinstance(entry, (list, tuple)) and len(entry) == 3 and all(isinstance(x, str) for x in entry)):
            raise UserError(f"DATASETS.COCO_FORMAT: {entry} is not [name, JSON file, image folder]")
        name, json_file, image_root = entry
        if name in DatasetCatalog:
            meta = MetadataCatalog.get(name)
            if (meta.get("json_file"), meta.get("image_root")) != (json_file, image_root):
                raise UserError(f"DATASETS.COCO_FORMAT: {name} is the name of another data set")
            _forget(name)
        _register(name, json_file, image_root)
    _register_parts(cfg)


def _register_parts(cfg: CfgNode) -> None:
    """Register the parts of data sets that the config names, as in vehicles_train[:100], by the order of ids."""
    for key in ("TRAIN", "UNLABELED", "TEST"):
        for name in map(str, cfg.DATASETS[key]):
            if not (found := PART.fullmatch(name)) or found[1] not in DatasetCatalog:
                continue
            meta = MetadataCatalog.get(found[1])
            if meta.get("evaluator_type") != "coco" or not meta.get("json_file"):
                raise UserError(f"DATASETS.{key}: {name}: {found[1]} is not in COCO form: name it as a whole")
            if name in DatasetCatalog:
                _forget(name)
            start, stop = (int(place) if place else None for place in found.groups()[1:])
            _register(name, meta.json_file, meta.image_root, (start, stop))


def _forget(name: str) -> None:
    """What is known of a data set may have changed with its file."""
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


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
    return with_only(cfg, "TEST").DATASETS.TEST[0]


def with_only(cfg: CfgNode, side: str) -> CfgNode:
    """A copy of cfg with the data sets of DATASETS.TRAIN, UNLABELED or TEST only, checked.

    Raises:
        UserError: as check_datasets.
    """
    alone = cfg.clone()
    alone.defrost()
    for other in {"TRAIN", "UNLABELED", "TEST"} - {side}:
        alone.DATASETS[other] = type(alone.DATASETS[other])()
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
    if (package := PACKAGES.get(meta.get("evaluator_type"))) and find_spec(package) is None:
        raise UserError(f"{key}: data set {name} needs the package {package}: install it, or take another data set")
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
    return read_coco(json_file).names
