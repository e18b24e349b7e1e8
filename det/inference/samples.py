"""Images to look at: those of a data set with their objects, or those of a folder."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data.detection_utils import annotations_to_instances
from detectron2.structures import BoxMode, Instances

from densedist.common.data.images import evenly, first_images
from densedist.common.data.packed import Chained
from densedist.common.errors import UserError
from densedist.common.task import ImageSource
from densedist.det.data.registering import dataset_dicts
from densedist.det.datasets import with_only


@dataclass(frozen=True)
class Sample:
    """An image file and its objects (gt_boxes, gt_classes, in pixels of the file); None = they are not known.

    Args:
        crowds: groups of objects that are not annotated one by one.
    """

    name: str
    file: Path
    objects: Instances | None
    crowds: Instances | None = None


def test_samples(cfg: CfgNode, count: int | None) -> list[Sample]:
    """List the first images of DATASETS.TEST, or all, with their objects.

    Raises:
        UserError: DATASETS.TEST is empty.
    """
    if not cfg.DATASETS.TEST:
        raise UserError("DATASETS.TEST is empty: name the data set, or a folder of images")
    dicts = chain.from_iterable(dataset_dicts(name) for name in cfg.DATASETS.TEST)
    return [_sample(entry) for entry in islice(dicts, count)]


def spread_samples(cfg: CfgNode, count: int, side: str = "TEST") -> list[Sample]:
    """List so many images, spread evenly over DATASETS.TEST or another side, with their objects."""
    entries = Chained([dataset_dicts(name) for name in cfg.DATASETS[side]])
    return [_sample(entry) for entry in evenly(entries, count)]


def count_samples(cfg: CfgNode) -> int:
    """Count the images of DATASETS.TEST."""
    return sum(len(dataset_dicts(name)) for name in cfg.DATASETS.TEST)


def samples_of(cfg: CfgNode, source: ImageSource) -> list[Sample]:
    """List the first images of a folder, or of DATASETS.TEST with their objects; its data sets are looked up.

    Raises:
        UserError: there are none, or one cannot be used.
    """
    if source.folder:
        found = first_images(source.folder, source.count)
        return [Sample(name, file, None) for name, file in found.items()]
    return test_samples(with_only(cfg, "TEST"), source.count)


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
