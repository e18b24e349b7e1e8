"""The images of data sets, and a part of the training data that is set aside, to choose settings on."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from densedist.common.errors import UserError
from densedist.det.data.coco import read_coco
from densedist.det.data.registering import PART, ground_truth


def images(cfg: CfgNode, side: str) -> set[str]:
    """The files of the images of DATASETS.TRAIN, UNLABELED or TEST, whose data sets are registered."""
    return {d["file_name"] for name in cfg.DATASETS[side] for d in DatasetCatalog.get(name)}


def contents(cfg: CfgNode, side: str) -> list[str | Path]:
    """The annotations and images of DATASETS.TRAIN, UNLABELED or TEST, whose data sets are registered, in order."""
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


def _digest(entries: Iterable[Any]) -> str:
    """Of plain data, one after another: all in one text would be as large as the annotation file."""
    digest = hashlib.sha256()
    for entry in entries:
        digest.update(json.dumps(entry, default=_plain).encode())
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    """What a script of one's own may put into a data set: arrays, and run lengths as bytes."""
    if isinstance(value, bytes):
        return value.hex()
    return value.tolist() if hasattr(value, "tolist") else type(value).__name__


def set_aside(cfg: CfgNode, share: float) -> list[str]:
    """Overrides by which the last images of each data set of DATASETS.TRAIN are DATASETS.TEST instead, as parts.

    Args:
        cfg: with its data sets looked up.
        share: of a data set's images, in the order of their ids, between 0 and 1; at least one image.

    Raises:
        UserError: a data set that is not in COCO form, or of which nothing would be left.
    """
    kept, aside = [], []
    for name in cfg.DATASETS.TRAIN:
        meta = MetadataCatalog.get(name)
        if meta.get("evaluator_type") != "coco" or not meta.get("json_file"):
            raise UserError(f"--set-aside: data set {name} is not in COCO form: name data to choose on by --val")
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
