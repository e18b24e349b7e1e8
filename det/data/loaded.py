"""Detectron2's dataset dicts of a data set, each made as it is asked for, and what a loader asks of all of them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog
from detectron2.structures import BoxMode

from densedist.common.data.packed import Mapped, Shared, Stamp, kept, pack, without_collector
from densedist.common.logging import logged_again, recorded
from densedist.det.data.coco import Coco, Columns, image_file
from densedist.det.data.duplicates import Entry
from densedist.det.data.teacher_labels import VARIANCE

LOGGER = "detectron2.data.datasets"  # of what Detectron2 has to say of a file
FORM = "2"  # of what is kept of a data set
KEPT = ("iscrowd", "bbox", "segmentation", "score", VARIANCE)  # of an annotation; a teacher gave the last two


@dataclass(frozen=True)
class Loaded(Shared):
    """Dataset dicts that are made as they are asked for, of what workers and processes share.

    Args:
        dicts: all of each.
        bare: each without its annotations.
        wide: which are wider than high (n,), bool.
        objects: how many annotations of each are no crowds (n,).
        histogram: how many of these each class has, by its number.
        columns: of all annotations, image by image, if they are known and all boxes are plain ones.
    """

    dicts: Sequence[Entry]
    bare: Sequence[Entry]
    wide: np.ndarray
    objects: np.ndarray
    histogram: np.ndarray
    columns: Columns | None = None

    def __len__(self) -> int:
        return len(self.dicts)

    def item(self, number: int) -> Entry:
        return self.dicts[number]


def of_coco(coco: Coco, image_root: str) -> Loaded:
    """Return the dicts of ground truth, in the order of the images' ids."""
    numbers = {category["id"]: number for number, category in enumerate(coco.categories)}
    bare = pack(
        None,
        (
            {
                "file_name": image_file(image_root, image["file_name"]),
                "height": image["height"],
                "width": image["width"],
                "image_id": image["id"],
            }
            for image in coco.images
        ),
    )
    objects = ~coco.columns.crowds
    kinds = np.array([numbers[kind] for kind in coco.columns.categories], np.int64)
    return Loaded(
        Mapped(partial(_dict, numbers), bare, coco.of_images),
        bare,
        coco.sizes[:, 1] > coco.sizes[:, 0],
        np.bincount(coco.columns.images[objects], minlength=len(bare)),
        np.bincount(kinds[objects], minlength=len(numbers)),
    )


@lru_cache(maxsize=4)
def of_detectron2(name: str, json_file: str, image_root: str, classes: int, _: Stamp) -> Loaded:
    """Return the dicts of one of Detectron2's own data sets, which it loads once on a machine.

    Args:
        classes: how many it has.
        _: of the file.
    """

    def load() -> tuple[Any, Sequence[Entry]]:
        with recorded(LOGGER) as said:
            dicts = DatasetCatalog.get(name)
        bare = [{key: value for key, value in d.items() if key != "annotations"} for d in dicts]
        kinds = [[a["category_id"] for a in d["annotations"] if not a.get("iscrowd")] for d in dicts]
        objects, histogram = np.array([len(of_image) for of_image in kinds]), Counter(chain.from_iterable(kinds))
        by_class = np.array([histogram[number] for number in range(classes)])
        return (bare, objects, by_class, _columns(dicts), said), dicts

    with without_collector():
        found = kept("dicts", Path(json_file), [FORM, name, image_root, version("detectron2")], load)
    bare, objects, histogram, columns, said = found.head
    if not found.new:
        logged_again(said)
    wide = np.array([d["width"] > d["height"] for d in bare], bool)
    return Loaded(found, pack(None, bare), wide, objects, histogram, columns)


def _columns(dicts: Sequence[Entry]) -> Columns | None:
    """Return what all annotations have, while they are in memory; None where a box is not four numbers, as Detectron2
    loads it from a file in COCO format."""
    annotations = [a for d in dicts for a in d["annotations"]]
    if not all(a.get("bbox_mode") is BoxMode.XYWH_ABS and "category_id" in a for a in annotations):
        return None
    try:
        boxes = np.array([a.get("bbox") for a in annotations] or np.zeros((0, 4)))
    except ValueError:  # of several lengths
        return None
    if boxes.dtype.kind not in "if" or boxes.shape[1:] != (4,):
        return None
    return Columns(
        boxes.astype(np.float64),
        np.repeat(np.arange(len(dicts)), [len(d["annotations"]) for d in dicts]),
        np.array([bool(a.get("iscrowd")) for a in annotations], bool),
        [a["category_id"] for a in annotations],
    )


def _dict(numbers: dict[int, int], bare: Entry, annotations: Sequence[Entry]) -> Entry:
    kept = []
    for annotation in annotations:
        one: Entry = {key: annotation[key] for key in KEPT if key in annotation}
        one["category_id"], one["bbox_mode"] = numbers[annotation["category_id"]], BoxMode.XYWH_ABS
        kept.append(one)
    return bare | {"annotations": kept}
