"""Images to look at: of DATASETS.TEST with their objects, or of a folder."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.data.detection_utils import annotations_to_instances
from detectron2.structures import BoxMode, Instances

from densedist.common.data.images import evenly, find_images
from densedist.common.errors import UserError


@dataclass(frozen=True)
class Sample:
    """An image file and its objects (gt_boxes, gt_classes, in pixels of the file); None = they are not known.

    Args:
        crowds: of objects that nobody told apart.
    """

    name: str
    file: Path
    objects: Instances | None
    crowds: Instances | None = None


def test_samples(cfg: CfgNode, count: int | None) -> list[Sample]:
    """The first images of DATASETS.TEST, or all, with their objects but for crowds.

    Raises:
        UserError: DATASETS.TEST is empty.
    """
    if not cfg.DATASETS.TEST:
        raise UserError("DATASETS.TEST is empty: name the data set, or a folder of images")
    dicts = chain.from_iterable(DatasetCatalog.get(name) for name in cfg.DATASETS.TEST)
    return [_sample(entry) for entry in islice(dicts, count)]


def spread_samples(cfg: CfgNode, count: int, side: str = "TEST") -> list[Sample]:
    """So many images, spread over DATASETS.TEST or another side, with their objects but for crowds."""
    entries = [entry for name in cfg.DATASETS[side] for entry in DatasetCatalog.get(name)]
    return [_sample(entry) for entry in evenly(entries, count)]


def folder_samples(folder: str, count: int) -> list[Sample]:
    """The first images of a folder.

    Raises:
        UserError: there are none, or one cannot be used.
    """
    return [Sample(name, file, None) for name, file in find_images([folder], count).items()]


def _sample(entry: dict) -> Sample:
    file = Path(entry["file_name"])
    if "annotations" not in entry:
        return Sample(file.stem, file, None)
    size = entry["height"], entry["width"]
    both = [annotations_to_instances(list(_of(entry["annotations"], crowds)), size) for crowds in (False, True)]
    return Sample(file.stem, file, *both)


def _of(annotations: list[dict], crowds: bool) -> Iterator[dict]:
    for annotation in annotations:
        if bool(annotation.get("iscrowd")) == crowds:
            box = BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS)
            yield {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": annotation["category_id"]}
