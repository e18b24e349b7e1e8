"""Pascal VOC's form: JPEGImages, Annotations with an XML file each, ImageSets/Main with a list for each split."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from densedist.common.data.images import is_hidden
from densedist.common.data.voc_lists import IMAGES, images_listed
from densedist.common.errors import UserError
from densedist.det.data.written import as_json, categories, image_size

ANNOTATIONS, LISTS = "Annotations", "ImageSets/Main"
TREE = f"want {IMAGES}/NAME.jpg, {ANNOTATIONS}/NAME.xml and {LISTS}/SPLIT.txt with a NAME a line"


def as_coco(folder: str, split: str) -> tuple[str, str]:
    """The COCO JSON file of a split, and the folder of its images.

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
    everything = sorted(f for f in (root / ANNOTATIONS).glob("*.xml") if not is_hidden(Path(f.name)))
    if lost := [one.name for one in found if one.image is None]:
        raise UserError(f"there is no image {root / IMAGES / lost[0]}.jpg; {TREE}")
    images = [one.image for one in found if one.image]
    made = as_json("voc", [listed, *everything, *images], [split], lambda: _coco(root, images, everything))
    return made, str(root / IMAGES)


def _coco(root: Path, images: list[Path], everything: list[Path]) -> dict[str, Any]:
    objects = {file.stem: _objects(file) for file in everything}
    if not (classes := sorted({found["name"] for of_image in objects.values() for found in of_image})):
        raise UserError(f"no object in {root / ANNOTATIONS}; {TREE}")
    content: dict[str, Any] = {"images": [], "annotations": [], "categories": categories(classes)}
    for number, image in enumerate(images, 1):
        if image.stem not in objects:
            raise UserError(f"there is no {root / ANNOTATIONS / f'{image.stem}.xml'}; {TREE}")
        height, width = image_size(image)
        content["images"].append({"id": number, "file_name": image.name, "height": height, "width": width})
        for found in objects[image.stem]:
            x1, y1, x2, y2 = found["box"]
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": number,
                    "category_id": classes.index(found["name"]),
                    "bbox": [x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1],
                    "iscrowd": int(found["difficult"]),
                }
            )
    return content


def _objects(file: Path) -> list[dict[str, Any]]:
    try:
        found = ElementTree.parse(file).getroot().findall("object")
        return [
            {
                "name": str(one.findtext("name", "")).strip(),
                "difficult": (one.findtext("difficult") or "0").strip() == "1",
                "box": [float(one.findtext(f"bndbox/{side}") or "") for side in ("xmin", "ymin", "xmax", "ymax")],
            }
            for one in found
        ]
    except (OSError, ElementTree.ParseError) as error:
        raise UserError(f"{file} cannot be read as XML: {error}") from error
    except ValueError as error:
        raise UserError(f"{file}: an object without a bndbox of numbers xmin, ymin, xmax and ymax") from error
