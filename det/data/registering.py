"""Data sets by name: Detectron2's, the digits scenes, those that a config declares in FORMATS, folders, and parts."""

import re
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import builtin

from densedist.common.data import digits
from densedist.common.data.packed import stamp_of
from densedist.common.data.sides import SIDES
from densedist.common.errors import UserError
from densedist.det.data import as_coco
from densedist.det.data.coco import LARGE, Coco, image_file, read_coco
from densedist.det.data.formats import FORMATS
from densedist.det.data.loaded import Loaded, of_coco, of_detectron2

Part = tuple[int | None, int | None]  # where it starts and stops among the images
PART = re.compile(r"(.+)\[(\d*):(\d*)\]")  # a data set and where a part of it starts and stops: vehicles_train[:100]
_SPLITS = (builtin._PREDEFINED_SPLITS_COCO, builtin._PREDEFINED_SPLITS_LVIS)
ANNOTATIONS = "annotations.json"  # in a folder of labels that a teacher wrote
# The data sets that Detectron2 registers itself; no public name lists them (DatasetCatalog has those of scripts).
BUILT_IN = frozenset(
    [
        *(name for splits in _SPLITS for group in splits.values() for name in group),
        *(f"voc_{year}_{split}" for year in (2007, 2012) for split in ("trainval", "train", "val", "test")),
        *(key.format(task="instance_seg") for key in builtin._RAW_CITYSCAPES_SPLITS),
    ]
)


def register_digits() -> None:
    """Register digits_train, digits_train_60, digits_val and digits_test; made when first loaded."""
    for split in digits.SPLITS:
        name = f"digits_{split}"
        if name not in DatasetCatalog:  # det is imported as a package of a checkout, too
            _register(name, str(digits.annotations(split)), str(digits.images(split)))
            MetadataCatalog.get(name).set(thing_classes=list(digits.CLASSES))


def register_declared(cfg: CfgNode, may_be_gone: bool = False) -> None:
    """Register the data sets of FORMATS that the config uses, parts of data sets, and folders: of images in UNLABELED,
    of labels that a teacher wrote in TRAIN and PSEUDO_LABELED.

    Args:
        may_be_gone: accept files that cannot be read: the config is that of a model trained elsewhere.

    Raises:
        UserError: an entry of another form, a name that is another data set already, files that do not have the form,
            or a part of a data set that is not in COCO format.
    """
    used = {whole_name(str(name)) for key in SIDES for name in cfg.DATASETS[key]}
    named: dict[str, str] = {}
    for key, format in FORMATS.items():
        may_be_lists = (False, *[key == "COCO_FORMAT"] * 2)
        for entry in cfg.DATASETS[key]:
            if not (isinstance(entry, (list, tuple)) and len(entry) == 3 and all(map(_is_named, entry, may_be_lists))):
                raise UserError(f"DATASETS.{key}: {entry} is not {format.entry}")
            name, origin = entry[0], (key, *(where if isinstance(where, str) else tuple(where) for where in entry[1:]))
            taken = name in DatasetCatalog and not _is_from(name, origin)
            if taken or named.setdefault(name, str(origin)) != str(origin):
                raise UserError(f"DATASETS.{key}: {name} is the name of another data set")
            # Those of a side that is not looked at may be gone; one file is not read here.
            if name in used or (key == "COCO_FORMAT" and all(isinstance(where, str) for where in entry)):
                with suppress(UserError) if may_be_gone else nullcontext():
                    _register_anew(name, *format.read(*entry[1:]))
                    MetadataCatalog.get(name).origin = origin
    for name in map(str, cfg.DATASETS.UNLABELED):
        if (path := whole_name(name)) not in DatasetCatalog and Path(path).expanduser().is_dir() and not may_be_gone:
            _register_anew(path, *as_coco.of_folder(path))
    for name in map(str, [*cfg.DATASETS.TRAIN, *cfg.DATASETS.PSEUDO_LABELED]):
        folder = Path(path := whole_name(name)).expanduser()
        if path not in DatasetCatalog and (folder / ANNOTATIONS).is_file() and not may_be_gone:
            _register_anew(path, str(folder / ANNOTATIONS), str(folder))
    _register_parts(cfg)


def ground_truth(name: str) -> Coco | None:
    """Return the ground truth of a data set in COCO format; None for another format, and for those of BUILT_IN.

    Raises:
        UserError: as read_coco.
    """
    meta = MetadataCatalog.get(name)
    if name in BUILT_IN or meta.get("evaluator_type") != "coco" or not (json_file := meta.get("json_file")):
        return None
    return read_coco(json_file).part(*meta.get("part", (None, None)))


def dataset_dicts(name: str) -> Loaded | list[dict]:
    """Return Detectron2's dataset dicts of a registered data set; the list of one that a script registered.

    Raises:
        UserError: as read_coco.
    """
    meta = MetadataCatalog.get(name)
    json_file, root = meta.get("json_file") or "", meta.get("image_root") or ""
    if meta.get("normalized"):
        if name.startswith("digits_"):
            digits.ensure()
        return _loaded(name, json_file, root, meta.part)
    if name in BUILT_IN and Path(json_file).is_file() and (stamp := stamp_of(json_file))[0] >= LARGE:
        return of_detectron2(name, json_file, root, len(meta.thing_classes), stamp)
    return DatasetCatalog.get(name)


def image_files(name: str) -> list[str]:
    """Return the image files of a registered data set.

    Raises:
        UserError: as read_coco.
    """
    meta = MetadataCatalog.get(name)
    if meta.get("normalized"):
        images = read_coco(meta.json_file).part(*meta.part).images
        return [image_file(meta.image_root, image["file_name"]) for image in images]
    dicts = dataset_dicts(name)
    return [d["file_name"] for d in (dicts.bare if isinstance(dicts, Loaded) else dicts)]


def classes_of_files(cfg: CfgNode, name: str) -> list[str] | None:
    """Return the classes of a data set of FORMATS by the files that the config names, whatever is registered.

    None where no entry has that name, or its files are gone.
    """
    for key, format in FORMATS.items():
        for entry in cfg.DATASETS[key]:
            if isinstance(entry, (list, tuple)) and len(entry) == 3 and entry[0] == name:
                with suppress(UserError):
                    return read_coco(format.read(*entry[1:])[0]).names
    return None


def declared_names(cfg: CfgNode) -> list[str]:
    """List the names that a config declares in FORMATS, used or not."""
    return [entry[0] for key in FORMATS for entry in cfg.DATASETS[key]]


def is_built_in(name: str) -> bool:
    """Return whether a name is always that of the same data set: one of Detectron2's own, or of the digits."""
    return name in BUILT_IN or name in (f"digits_{split}" for split in digits.SPLITS)


def whole_name(name: str) -> str:
    """Return the name of a data set without its part: vehicles_train of vehicles_train[:100]."""
    found = PART.fullmatch(name)
    return found[1] if found else name


def _is_named(where: Any, may_be_list: bool) -> bool:
    """Return whether it is text, or a list of text."""
    return isinstance(where, str) or (
        may_be_list and isinstance(where, (list, tuple)) and all(isinstance(x, str) for x in where)
    )


def _is_from(name: str, origin: tuple) -> bool:
    """Return whether a registered data set is what an entry declares; one in COCO format may be a script's work."""
    meta = MetadataCatalog.get(name)
    given = ("COCO_FORMAT", meta.get("json_file"), meta.get("image_root"))
    return meta.get("origin", given) == origin


def _register(name: str, json_file: str, image_root: str, part: Part = (None, None)) -> None:
    DatasetCatalog.register(name, lambda: _load(name, json_file, image_root, part))
    meta = MetadataCatalog.get(name)
    meta.set(json_file=json_file, image_root=image_root, evaluator_type="coco", normalized=True, part=part)


def _load(name: str, json_file: str, image_root: str, part: Part) -> list[dict]:
    """Load Detectron2's dataset dicts, in the order of the images' ids."""
    if name.startswith("digits_"):
        digits.ensure()
    return list(_loaded(name, json_file, image_root, part))


def _loaded(name: str, json_file: str, image_root: str, part: Part) -> Loaded:
    coco = read_coco(json_file).part(*part)
    if coco.categories:  # a folder of images has none
        classes = {category["id"]: number for number, category in enumerate(coco.categories)}
        MetadataCatalog.get(name).set(thing_classes=coco.names, thing_dataset_id_to_contiguous_id=classes)
    return of_coco(coco, image_root)


def _register_anew(name: str, json_file: str, image_root: str) -> None:
    """Register a data set; what was known of it may have changed with its files."""
    if name in DatasetCatalog:
        _forget(name)
    _register(name, json_file, image_root)


def _register_parts(cfg: CfgNode) -> None:
    """Register the parts of data sets that the config names, as in vehicles_train[:100], by the order of ids."""
    for key in SIDES:
        for name in map(str, cfg.DATASETS[key]):
            if not (found := PART.fullmatch(name)) or found[1] not in DatasetCatalog:
                continue
            meta = MetadataCatalog.get(found[1])
            if meta.get("evaluator_type") != "coco" or not meta.get("json_file"):
                raise UserError(f"DATASETS.{key}: {name}: {found[1]} is not in COCO format: name it as a whole")
            if name in DatasetCatalog:
                _forget(name)
            start, stop = (int(place) if place else None for place in found.groups()[1:])
            _register(name, meta.json_file, meta.image_root, (start, stop))


def _forget(name: str) -> None:
    """Forget a data set, as what is known of it may have changed with its file."""
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)
