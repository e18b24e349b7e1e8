"""Pascal VOC's format: JPEGImages, Annotations with an XML file each, ImageSets/Main with a list for each split."""

import logging
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from densedist.common.data.headers import Size
from densedist.common.data.images import is_hidden
from densedist.common.data.voc_lists import IMAGES, images_listed
from densedist.common.errors import UserError
from densedist.det.data.as_coco import as_json, categories, image_size

logger = logging.getLogger(__name__)
DIFFICULT = {"0": False, "": False, "false": False, "unspecified": False, "1": True, "true": True}
ANNOTATIONS, LISTS = "Annotations", "ImageSets/Main"
TREE = f"want {IMAGES}/NAME.jpg, {ANNOTATIONS}/NAME.xml and {LISTS}/SPLIT.txt with a NAME a line"


def as_coco(folder: str, split: str) -> tuple[str, str]:
    """Return the COCO JSON file of a split, and the folder of its images.

    The classes are the names in all annotations of the folder, in the order of the alphabet. What is marked as
    difficult is a crowd: it is not learned, and finding it counts neither way. Pixels are counted from 1.

    Args:
        folder: e.g. VOCdevkit/VOC2012.
        split: whose list names the images.

    Raises:
        UserError: what is missing, or an annotation that means nothing.
    """
    root = Path(folder).expanduser()
    listed = root / LISTS / f"{split}.txt"
    found = images_listed(listed, root / IMAGES, TREE)
    place = root / ANNOTATIONS
    everything = sorted(f for f in place.rglob("*.xml") if not is_hidden(f.relative_to(place)))
    if lost := [one.name for one in found if one.image is None]:
        raise UserError(f"there is no image {root / IMAGES / lost[0]}.jpg; {TREE}")
    images = [one.image for one in found if one.image]
    made = as_json("voc", [listed, *everything, *images], [split], lambda: _coco(root, images, everything))
    return made, str(root / IMAGES)


def _coco(root: Path, images: list[Path], everything: list[Path]) -> dict[str, Any]:
    # By their paths, as two folders may have files of one name.
    files = {file.relative_to(root / ANNOTATIONS).with_suffix(""): file for file in everything}
    objects = {name: _objects(file) for name, file in files.items()}
    if not (classes := sorted({found["name"] for of_image in objects.values() for found in of_image})):
        raise UserError(f"no object in {root / ANNOTATIONS}; {TREE}")
    content: dict[str, Any] = {"images": [], "annotations": [], "categories": categories(classes)}
    stems = Counter(image.stem for image in images)
    for number, image in enumerate(images, 1):
        inner = image.relative_to(root / IMAGES) if image.is_relative_to(root / IMAGES) else Path(image.name)
        name = inner.with_suffix("")
        if name not in objects and stems[image.stem] == 1:
            name = Path(image.stem)  # images in folders, and their annotations in one
        if name not in objects:
            raise UserError(
                f"there is no {root / ANNOTATIONS / inner.with_suffix('.xml')}; {TREE}; "
                "for an image without objects it contains <annotation/>"
            )
        height, width = image_size(image)
        _check_size(files[name], image, (height, width))
        file_name = str(inner if image.is_relative_to(root / IMAGES) else image.absolute())
        content["images"].append({"id": number, "file_name": file_name, "height": height, "width": width})
        for found in objects[name]:
            x1, y1, x2, y2 = found["box"]
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": number,
                    "category_id": classes.index(found["name"]),
                    "bbox": [x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1],
                    "area": float((x2 - x1 + 1) * (y2 - y1 + 1)),
                    "iscrowd": int(found["difficult"]),
                }
            )
    if first := sum(-1 in a["bbox"][:2] for a in content["annotations"]):
        logger.warning(
            f"{root / ANNOTATIONS}: {first} boxes begin at pixel 0, but in this form the first pixel is 1: "
            "are all boxes a pixel off?"
        )
    return content


def _parsed(file: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(file).getroot()
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:  # an encoding that is not known
        raise UserError(f"{file} cannot be read as XML: {error}") from error


def _check_size(file: Path, image: Path, size: Size) -> None:
    """Refuse an annotation of an image of another size; 0 says nothing."""
    root = _parsed(file)
    said = tuple((root.findtext(f"size/{side}") or "").strip() for side in ("height", "width"))
    known = [int(float(text)) if text.replace(".", "", 1).isdigit() else 0 for text in said]
    if all(known) and tuple(known) != size:
        raise UserError(
            f"{file} is of an image of {known[1]}x{known[0]} pixels, but {image.name} has {size[1]}x{size[0]}: "
            "boxes and image do not belong together; correct one of them"
        )


def _objects(file: Path) -> list[dict[str, Any]]:
    return [_object(one, file) for one in _parsed(file).findall("object")]


def _object(one: ElementTree.Element, file: Path) -> dict[str, Any]:
    name, difficult = (str(one.findtext(key) or "").strip() for key in ("name", "difficult"))
    if not name:
        raise UserError(f"{file}: an object has no name")
    if difficult.lower() not in DIFFICULT:
        raise UserError(f"{file}: difficult is {difficult!r}: want 0 or 1")
    try:
        box = [float(one.findtext(f"bndbox/{side}") or "") for side in ("xmin", "ymin", "xmax", "ymax")]
    except ValueError as error:
        raise UserError(f"{file}: an object has no bndbox with numbers xmin, ymin, xmax and ymax") from error
    return {"name": name, "difficult": DIFFICULT[difficult.lower()], "box": box}
