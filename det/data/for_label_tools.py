"""Labels in COCO's format written as YOLO's or Pascal VOC's, for tools in which people correct them."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml

from densedist.common.data.images import unique_names
from densedist.common.data.voc_lists import IMAGES
from densedist.common.errors import UserError
from densedist.common.locks import refuse_files
from densedist.det.data.coco import Coco, image_file, read_coco
from densedist.det.data.registering import ANNOTATIONS
from densedist.det.data.voc import ANNOTATIONS as XML
from densedist.det.data.voc import LISTS

SPLIT = "train"
Entry = Mapping[str, Any]


def write_yolo(source: Path, output: Path) -> str:
    """Write data.yaml, images/train and labels/train. Crowds and masks are left out, which YOLO's boxes have none of.

    Args:
        source: a folder that `densedist label` has written, or a COCO file with the images in its folder or where it
            says; the images are linked.
        output: an empty or new folder.

    Returns:
        what was written, in words.

    Raises:
        UserError: nothing to read there, or a folder that has files.
    """
    coco, places, names = _read(source, output)
    numbers = {category["id"]: number for number, category in enumerate(coco.categories)}
    for image, objects in _with_objects(coco):
        _link(places[image["id"]], output / "images" / SPLIT / names[image["id"]])
        lines = [_yolo_line(a, numbers[a["category_id"]], image) for a in objects if not a["iscrowd"]]
        _write(output / "labels" / SPLIT / f"{Path(names[image['id']]).stem}.txt", "".join(lines))
    content = {"path": ".", SPLIT: f"images/{SPLIT}", "names": dict(enumerate(coco.names))}
    _write(output / "data.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    crowds = len(coco.annotations) - len(coco.objects)
    without = f", without {crowds} crowds, which YOLO does not have" if crowds else ""
    return f"{len(coco.objects)} boxes in {len(coco.images)} images{without}"


def write_voc(source: Path, output: Path) -> str:
    """Write JPEGImages, Annotations and ImageSets/Main/train.txt; crowds are marked as difficult. See write_yolo."""
    coco, places, names = _read(source, output)
    called = {category["id"]: category["name"] for category in coco.categories}
    for image, objects in _with_objects(coco):
        name = names[image["id"]]
        _link(places[image["id"]], output / IMAGES / name)
        _write(output / XML / f"{Path(name).stem}.xml", _voc_xml(name, image, objects, called))
    _write(output / LISTS / f"{SPLIT}.txt", "".join(f"{Path(name).stem}\n" for name in names.values()))
    return f"{len(coco.annotations)} boxes in {len(coco.images)} images"


FORMS = {"yolo": write_yolo, "voc": write_voc}


def _read(source: Path, output: Path) -> tuple[Coco, dict[int, Path], dict[int, str]]:
    """Return the labels, and of each image by its id the file and the name that it gets."""
    file = source / ANNOTATIONS if source.is_dir() else source
    if not file.is_file():
        raise UserError(f"there is no {file}: name a folder that densedist label det has written, or a COCO file")
    refuse_files(output, "--output-dir")
    coco = read_coco(str(file))
    places = {image["id"]: Path(image_file(str(file.parent), image["file_name"])) for image in coco.images}
    stems = unique_names([place.stem for place in places.values()])
    return coco, places, {i: f"{stem}{place.suffix}" for (i, place), stem in zip(places.items(), stems, strict=True)}


def _with_objects(coco: Coco) -> list[tuple[Entry, list[Entry]]]:
    objects: dict[int, list[Entry]] = {image["id"]: [] for image in coco.images}
    for annotation in coco.annotations:
        objects[annotation["image_id"]].append(annotation)
    return [(image, objects[image["id"]]) for image in coco.images]


def _yolo_line(annotation: Entry, number: int, image: Entry) -> str:
    x, y, width, height = annotation["bbox"]
    parts = (x + width / 2) / image["width"], (y + height / 2) / image["height"]
    sizes = width / image["width"], height / image["height"]
    return " ".join([str(number), *(f"{part:.9f}" for part in (*parts, *sizes))]) + "\n"


def _voc_xml(name: str, image: Entry, objects: Sequence[Entry], called: Mapping[int, str]) -> str:
    """Return an annotation; pixels are counted from 1."""
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = name
    size = ElementTree.SubElement(root, "size")
    for key, value in (("width", image["width"]), ("height", image["height"]), ("depth", 3)):
        ElementTree.SubElement(size, key).text = str(value)
    for annotation in objects:
        x, y, width, height = annotation["bbox"]
        one = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(one, "name").text = called[annotation["category_id"]]
        ElementTree.SubElement(one, "difficult").text = str(annotation["iscrowd"])
        box = ElementTree.SubElement(one, "bndbox")
        for side, value in (("xmin", x + 1), ("ymin", y + 1), ("xmax", x + width), ("ymax", y + height)):
            ElementTree.SubElement(box, side).text = str(round(value, 3))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _link(source: Path, place: Path) -> None:
    """Link to an image at a place, whose folder is made."""
    place.parent.mkdir(parents=True, exist_ok=True)
    os.symlink(source.resolve(), place)


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
