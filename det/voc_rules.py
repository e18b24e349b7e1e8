"""Scores by Pascal VOC's rules: of data sets in its form that Detectron2 knows, and of any in COCO form."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from detectron2.data import MetadataCatalog
from detectron2.evaluation import PascalVOCDetectionEvaluator
from detectron2.evaluation.pascal_voc_evaluation import parse_rec

from densedist.det.data.coco import Coco, Entry

SPLIT = "scored"


class VocEvaluator(PascalVOCDetectionEvaluator):
    """Detectron2's, on annotations that are read anew; a class without objects counts 0, whatever is found of it."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        parse_rec.cache_clear()
        images = Path(self._image_set_path).read_text().splitlines()
        objects = (a for image in images for a in parse_rec(self._anno_file_template.format(image.strip())))
        there = {a["name"] for a in objects if not a["difficult"]}
        self._absent = [number for number, kind in enumerate(self._class_names) if kind not in there]

    def process(self, inputs: Sequence[dict], outputs: Sequence[dict]) -> None:
        super().process(inputs, outputs)
        for number in self._absent:  # whose recall would be 0 / 0, and the mean over all classes as well
            self._predictions.pop(number, None)


class VocRules(VocEvaluator):
    """VOC's rules for a data set in COCO form: its crowds are difficult objects, its boxes whole pixels.

    Args:
        name: the data set.
        coco: its ground truth.
        year: 2007 (eleven points of recall) or 2012 (all of them).
        images: ids of those that count; None = all.
    """

    def __init__(self, name: str, coco: Coco, year: int, images: Sequence[Any] | None = None) -> None:
        kept = None if images is None else set(images)
        self._files = tempfile.TemporaryDirectory(prefix="voc_rules_")
        written = [image["id"] for image in coco.images if kept is None or image["id"] in kept]
        _write(coco, written, Path(self._files.name))
        with _known(self._files.name, year, coco.names) as written_set:
            super().__init__(written_set)
        self._dataset_name, self._written = name, frozenset(written)

    def process(self, inputs: Sequence[dict], outputs: Sequence[dict]) -> None:
        pairs = [pair for pair in zip(inputs, outputs, strict=True) if pair[0]["image_id"] in self._written]
        super().process([sample for sample, _ in pairs], [output for _, output in pairs])


@contextmanager
def _known(folder: str, year: int, classes: Sequence[str]) -> Iterator[str]:
    """The name of a folder in VOC's form, which Detectron2 knows within the block."""
    MetadataCatalog.get(folder).set(dirname=folder, split=SPLIT, year=year, thing_classes=list(classes))
    try:
        yield folder
    finally:
        MetadataCatalog.remove(folder)


def _write(coco: Coco, images: Sequence[int], folder: Path) -> None:
    """Annotations and the list of images, named by their ids."""
    objects: dict[int, list[Entry]] = {image: [] for image in images}
    for annotation in coco.annotations:
        if annotation["image_id"] in objects:
            objects[annotation["image_id"]].append(annotation)
    lists, annotations = folder / "ImageSets" / "Main", folder / "Annotations"
    lists.mkdir(parents=True)
    annotations.mkdir()
    (lists / f"{SPLIT}.txt").write_text("".join(f"{image}\n" for image in images))
    names = {category["id"]: category["name"] for category in coco.categories}
    for image, of_image in objects.items():
        root = ElementTree.Element("annotation")
        for annotation in of_image:
            _add(root, names[annotation["category_id"]], annotation)
        ElementTree.ElementTree(root).write(annotations / f"{image}.xml")


def _add(root: ElementTree.Element, name: str, annotation: Entry) -> None:
    x, y, width, height = annotation["bbox"]
    one = ElementTree.SubElement(root, "object")
    about = {"name": name, "pose": "Unspecified", "truncated": 0, "difficult": annotation["iscrowd"]}
    for key, value in about.items():
        ElementTree.SubElement(one, key).text = str(value)
    box = ElementTree.SubElement(one, "bndbox")
    # Pixels are counted from 1, and both corners belong to the box.
    for side, place in {"xmin": x + 1, "ymin": y + 1, "xmax": x + width, "ymax": y + height}.items():
        ElementTree.SubElement(box, side).text = str(round(place))
