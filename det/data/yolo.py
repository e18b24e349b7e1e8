"""YOLO's format: a data.yaml, folders of images, and beside each folder images one of labels, a text file per image."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from densedist.common.config.repeated_keys import refuse_repeated_keys
from densedist.common.data.images import images_in
from densedist.common.data.voc_lists import read_text
from densedist.common.errors import UserError
from densedist.common.nearest import did_you_mean_path
from densedist.det.data.as_coco import as_json, categories, image_size
from densedist.det.data.yolo_labels import Label, read_labels

logger = logging.getLogger(__name__)
SPLITS = ("train", "val", "test")
UP = "../"


def as_coco(yaml_file: str, split: str) -> tuple[str, str]:
    """Return the COCO JSON file of a split, and the folder that its images' names start from.

    A line of labels is a class and a box (center and size) or a polygon, in parts of the image; an image without a file
    of labels has no object.

    Args:
        yaml_file: with names, a list or a dict by number, the splits, and perhaps path, where they start from, and
            kpt_shape. A split is a folder, a text file of paths, or a list of these, found as Ultralytics finds them.
        split: one of SPLITS.

    Raises:
        UserError: what is missing, or a line that means nothing.
    """
    file = Path(yaml_file).expanduser()
    content = _read(file)
    names, keypoints = _names(content, file), _keypoints(content, file)
    base = _base(content, file)
    if not content.get(split):
        given = ", ".join(name for name in SPLITS if content.get(name)) or "none"
        raise UserError(f"{file} has no split {split}: it has {given}")
    places = content[split] if isinstance(content[split], list) else [content[split]]
    listed = [image for place in places for image in _images(base, str(place), file)]
    if not listed:  # an empty list
        raise UserError(f"{file}: no image in its split {split}, {', '.join(map(str, places))}")
    images = list(dict.fromkeys(listed))
    if len(images) < len(listed):
        logger.warning(
            f"{file}: {len(listed) - len(images)} images of its split {split} are named twice: each is used once"
        )
    labels = _labels(images, f"{file}: split {split}")
    made = as_json(
        "yolo",
        [file, *images, *dict.fromkeys(labels.values())],
        [split],
        lambda: _coco(images, base, names, labels, read_labels([*labels.values()], len(names), keypoints)),
    )
    return made, str(base)


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise UserError(f"DATASETS.YOLO_FORMAT: there is no file {file}{did_you_mean_path(file)}")
    try:
        text = read_text(file)
        refuse_repeated_keys(text, str(file))
        content = yaml.safe_load(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{file} cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} is not a YOLO data.yaml: want names, and a folder of images for each split")
    if "validation" in content:  # an older name
        content.setdefault("val", content["validation"])
    return content


def _names(content: dict[str, Any], file: Path) -> list[str]:
    names = content.get("names")
    if isinstance(names, dict):
        numbered = {int(key): name for key, name in names.items() if str(key).isdigit()}
        if len(numbered) == len(names) and sorted(numbered) == list(range(len(names))):
            names = [numbered[number] for number in range(len(names))]
    if not (isinstance(names, list) and names):
        raise UserError(f"{file}: names is {names!r}: want a list, or a dict with the numbers from 0 on")
    if strange := [name for name in names if isinstance(name, bool) or not isinstance(name, (str, int, float))]:
        raise UserError(f"{file}: names has {strange[0]!r}: want text; yes, no and null in quotes")
    if str(content.get("nc", len(names))) != str(len(names)):
        raise UserError(f"{file}: nc is {content['nc']}, but there are {len(names)} names")
    if twins := [name for name, count in Counter(str(name).strip() for name in names).items() if count > 1]:
        raise UserError(f"{file}: names has {twins[0]!r} more than once: make them unique")
    return [str(name) for name in names]


def _keypoints(content: dict[str, Any], file: Path) -> tuple[int, int] | None:
    """Return how many keypoints an object has, and how many numbers each of them; None if it has none."""
    if (shape := content.get("kpt_shape")) is None:
        return None
    if not (isinstance(shape, list) and len(shape) == 2 and type(shape[0]) is int and shape[0] > 0):
        raise UserError(f"{file}: kpt_shape is {shape!r}: want [number of keypoints, 2 or 3]")
    if shape[1] not in (2, 3):
        raise UserError(f"{file}: kpt_shape is {shape!r}: want [number of keypoints, 2 or 3]")
    return shape[0], shape[1]


def _base(content: dict[str, Any], file: Path) -> Path:
    """Return the folder that splits start from: path, from the file's folder or the current one; or the file's."""
    given = str(content.get("path") or "").replace("\\", "/")
    from_file, from_here = file.parent / given, Path(given).expanduser()
    return from_here if not from_file.is_dir() and from_here.is_dir() else from_file


def _images(base: Path, place: str, file: Path) -> list[Path]:
    place = place.replace("\\", "/")
    found = base / place
    if not found.exists() and place.startswith(UP):  # as Roboflow writes it for what lies beside the file
        found = base / place.removeprefix(UP)
    if found.is_dir():
        return images_in(found)
    if found.suffix == ".txt" and found.is_file():
        lines = [line.strip().replace("\\", "/") for line in read_text(found).splitlines()]
        return [_listed(line, found, base) for line in lines if line]
    raise UserError(
        f"{file}: there is no {base / place}: want a folder of images, or a text file of their paths"
        f"{did_you_mean_path(base / place)}"
    )


def _listed(line: str, file: Path, base: Path) -> Path:
    """Find an image that a text file names: from its folder on, from that of the splits, or from the current one."""
    beside = file.parent / line
    if line.startswith("./") or beside.exists():
        return beside
    return next((image for image in (base / line, Path(line)) if image.exists()), beside)


def _label(image: Path) -> Path:
    """Return the path of an image's labels: its last folder images is labels, its suffix .txt."""
    parts = list(image.parts)
    if "images" in parts[:-1]:
        parts[len(parts) - 2 - parts[-2::-1].index("images")] = "labels"
    return Path(*parts).with_suffix(".txt")


def _labels(images: Sequence[Path], source: str) -> dict[Path, Path]:
    """Return the file of labels of each image that has one."""
    labels = {image: label for image in images if (label := _label(image)).is_file()}
    first: dict[Path, Path] = {}
    for image, label in labels.items():
        if (other := first.setdefault(label, image)) is not image:
            raise UserError(f"{source}: {other} and {image.name} have the same labels, {label}: rename one of them")
    if not labels:
        logger.warning(f"{source}: none of {len(images)} images has labels, first {_label(images[0])}")
    return labels


def _coco(
    images: Sequence[Path],
    base: Path,
    names: list[str],
    labels: Mapping[Path, Path],
    read: Mapping[Path, Sequence[Label]],
) -> dict[str, Any]:
    content: dict[str, Any] = {"images": [], "annotations": [], "categories": categories(names)}
    for number, image in enumerate(images, 1):
        height, width = image_size(image)
        # From the folder on, or whole: os.path.join takes both.
        name = str(image.relative_to(base) if image.is_relative_to(base) else image.absolute())
        content["images"].append({"id": number, "file_name": name, "height": height, "width": width})
        for label in read[labels[image]] if image in labels else ():
            found = {"id": len(content["annotations"]) + 1, "image_id": number, **_object(label, width, height)}
            content["annotations"].append(found)
    return content


def _object(label: Label, width: int, height: int) -> dict[str, Any]:
    if len(label.numbers) == 4:
        x, y, w, h = label.numbers
        box = [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height]
        return {"category_id": label.kind, "bbox": box, "area": box[2] * box[3]}
    xs, ys = [x * width for x in label.numbers[::2]], [y * height for y in label.numbers[1::2]]
    box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    polygon = [value for point in zip(xs, ys, strict=True) for value in point]
    return {"category_id": label.kind, "bbox": box, "area": box[2] * box[3], "segmentation": [polygon]}
