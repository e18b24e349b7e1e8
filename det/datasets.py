"""The data sets of DATASETS, by side: checked against the model and each other, listed, divided."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from densedist.common.data import digits
from densedist.common.data.sides import SIDES, labeled_sets
from densedist.common.errors import UserError
from densedist.common.nearest import did_you_mean, did_you_mean_path
from densedist.det.architectures import class_count, classes_key
from densedist.det.data.classes import class_names, known_classes
from densedist.det.data.coco import read_coco
from densedist.det.data.registering import (
    PART,
    declared_names,
    ground_truth,
    image_files,
    register_declared,
    whole_name,
)

# The package that reads or scores a data set of these rules; it may be missing.
PACKAGES: Mapping[str, str] = {"lvis": "lvis", "cityscapes_instance": "cityscapesscripts"}


def check_datasets(cfg: CfgNode) -> list[str]:
    """Make sure that every data set of the config can be read and has the model's number of classes.

    Returns:
        the names of the classes; empty if they are unknown.

    Raises:
        UserError: an unknown name, a missing annotation file or image folder, a wrong class count, categories
            that differ between training and test.
    """
    register_declared(cfg)
    known = [*DatasetCatalog.list(), *declared_names(cfg)]
    for key in SIDES:
        for name in cfg.DATASETS[key]:
            _check_dataset(name, f"DATASETS.{key}", known, cfg)
    return _check_same_categories(cfg)


def with_only(cfg: CfgNode, side: str) -> CfgNode:
    """Return a copy of cfg with the data sets of one side of DATASETS only, checked.

    Raises:
        UserError: as check_datasets.
    """
    alone = cfg.clone()
    alone.defrost()
    for other in {*SIDES} - {side}:
        alone.DATASETS[other] = type(alone.DATASETS[other])()
    check_datasets(alone)
    return alone


def test_dataset(cfg: CfgNode) -> str:
    """Return the first data set of DATASETS.TEST; those of training may be gone.

    Raises:
        UserError: there is none, or its files are not there.
    """
    if not cfg.DATASETS.TEST:
        raise UserError("DATASETS.TEST is empty: name a data set")
    return with_only(cfg, "TEST").DATASETS.TEST[0]


def class_labels(cfg: CfgNode) -> tuple[str, ...]:
    """Return a name for each class of the config's model: "class 3" where it is unknown."""
    return tuple(known_classes(cfg) or [f"class {n}" for n in range(class_count(cfg))])


def check_count(cfg: CfgNode) -> None:
    """Check that the model has a class for each name of DATASETS.CLASSES, if there are names.

    Raises:
        UserError: it has more or less.
    """
    if (names := len(cfg.DATASETS.CLASSES)) and names != (count := class_count(cfg)):
        raise UserError(f"{classes_key(cfg)} is {count}, but DATASETS.CLASSES has {names} names")


def images(cfg: CfgNode, side: str) -> set[str]:
    """Return the image files of a side of DATASETS, whose data sets are registered."""
    return {file for name in cfg.DATASETS[side] for file in image_files(name)}


def contents(cfg: CfgNode, side: str) -> list[str | Path]:
    """List all that training and scores depend on in a side of DATASETS: annotations, then images.

    The data sets are registered. A path stands for what is in the file.
    """
    found: list[str | Path] = []
    for name in cfg.DATASETS[side]:
        meta = MetadataCatalog.get(name)
        if (coco := ground_truth(name)) is not None:
            root, entries = meta.get("image_root") or "", coco.images
            labels = [*coco.categories, *([] if side == "UNLABELED" else coco.annotations)]
        else:
            root, entries, labels = "", DatasetCatalog.get(name), []
            labels += [{"classes": meta.get("thing_classes")}]  # which loading it may have named
            found += [Path(meta.json_file)] if meta.get("json_file") else []
        places = [{key: value for key, value in entry.items() if key != "file_name"} for entry in entries]
        found.append(_digest([{"rules": meta.get("evaluator_type")}, *labels, *places]))
        found += [Path(root, entry["file_name"]) for entry in entries]
    return found


def set_aside(cfg: CfgNode, share: float) -> list[str]:
    """Return overrides that move the last images of each data set of DATASETS.TRAIN to DATASETS.TEST, as parts.

    Args:
        cfg: with its data sets looked up.
        share: of a data set's images, in the order of their ids, between 0 and 1; at least one image.

    Raises:
        UserError: a data set that is not in COCO format, or of which nothing would be left.
    """
    kept, aside = [], []
    for name in cfg.DATASETS.TRAIN:
        meta = MetadataCatalog.get(name)
        if meta.get("evaluator_type") != "coco" or not meta.get("json_file"):
            raise UserError(f"--set-aside: data set {name} is not in COCO format: name data to choose on by --val")
        count = len(read_coco(meta.json_file).part(*meta.get("part", (None, None))).images)
        last = max(1, round(count * share))
        if last >= count:
            raise UserError(f"--set-aside: {share:g} of the {count} images of {name} leaves none to train on")
        found = PART.fullmatch(name)
        whole, start = (found[1], found[2]) if found else (name, "")
        end = int(start or 0) + count
        kept.append(f"{whole}[{start}:{end - last}]")
        aside.append(f"{whole}[{end - last}:{end}]")
    return ["DATASETS.TRAIN", str(kept), "DATASETS.TEST", str(aside)]


def _check_dataset(name: str, key: str, known: Sequence[str], cfg: CfgNode) -> None:
    if name not in DatasetCatalog:
        is_path = "/" in name or key == "DATASETS.UNLABELED"
        near = did_you_mean(str(name), known) or (did_you_mean_path(whole_name(name)) if is_path else "")
        if key == "DATASETS.UNLABELED":
            raise UserError(f"{key}: there is no folder {whole_name(name)}, nor a data set of this name{near}")
        hint = near or "; name it in DATASETS.COCO_FORMAT, YOLO_FORMAT or VOC_FORMAT"
        raise UserError(f"{key}: there is no data set {name}{hint}")
    if name.startswith("digits_"):
        digits.ensure()
    meta = MetadataCatalog.get(name)
    if (package := PACKAGES.get(meta.get("evaluator_type"))) and find_spec(package) is None:
        raise UserError(f"{key}: data set {name} needs the package {package}: install it, or take another data set")
    hint = "" if name.startswith("digits_") else " (built-in data sets lie under $DETECTRON2_DATASETS, or ./datasets)"
    if (json_file := meta.get("json_file")) and not Path(json_file).is_file():
        raise UserError(
            f"{key}: data set {name} has no annotation file {json_file}{did_you_mean_path(json_file) or hint}"
        )
    if (image_root := meta.get("image_root")) and not Path(image_root).is_dir():
        raise UserError(
            f"{key}: data set {name} has no image folder {image_root}{did_you_mean_path(image_root) or hint}"
        )
    names = class_names(name)
    if not names and key == "DATASETS.UNLABELED":
        return
    if names is not None and len(names) != (count := class_count(cfg)):
        raise UserError(f"{classes_key(cfg)} is {count}, but data set {name} has {len(names)} classes")


def _check_same_categories(cfg: CfgNode) -> list[str]:
    """Return the names of the classes, which all data sets must share.

    Training names the outputs by their numbers; another order in the test set would score them as wrong.
    """
    datasets = [*labeled_sets(cfg), *cfg.DATASETS.TEST]
    known = [(f"data set {name}", names) for name in datasets if (names := class_names(name)) is not None]
    if cfg.DATASETS.CLASSES:
        check_count(cfg)
        known.insert(0, ("DATASETS.CLASSES", list(cfg.DATASETS.CLASSES)))
    for name, names in known[1:]:
        for number, (one, other) in enumerate(zip(known[0][1], names, strict=True)):
            if one != other:
                raise UserError(
                    f"DATASETS: category {number}, by the order of ids, is {one} in {known[0][0]}, {other} "
                    f"in {name}: give both the same categories with the same ids"
                )
    return known[0][1] if known else []


def _digest(entries: Iterable[Any]) -> str:
    """Hash plain data one entry after another: all in one text would be as large as the annotation file."""
    digest = hashlib.sha256()
    for entry in entries:
        digest.update(json.dumps(entry, default=_plain).encode())
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    """Convert for JSON what a script may put into a data set: arrays, and run lengths as bytes."""
    if isinstance(value, bytes):
        return value.hex()
    return value.tolist() if hasattr(value, "tolist") else type(value).__name__
