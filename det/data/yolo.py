"""YOLO's form: a data.yaml, folders of images, and beside each folder images one of labels, a text file per image."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from densedist.common.config.repeated import refuse_repeated_keys
from densedist.common.data.images import images_in
from densedist.common.data.text import read_text
from densedist.common.errors import UserError
from densedist.det.data.written import as_json, categories, image_size

SPLITS = ("train", "val", "test")
SLACK = 0.01  # by which a coordinate may leave the image: rounding


def as_coco(yaml_file: str, split: str) -> tuple[str, str]:
    """The COCO JSON file of a split, and the folder that its images' names start from.

    A line of labels is a class and a box (center and size) or a polygon, in parts of the image; an image without a file
    of labels has no object.

    Args:
        yaml_file: with names, a list or a dict by number, the splits, and perhaps path, where they start from. A split
            is a folder, a text file of paths, or a list of these.
        split: one of SPLITS.

    Raises:
        UserError: what is missing, or a line that means nothing.
    """
    file = Path(yaml_file).expanduser()
    content = _read(file)
    names = _names(content, file)
    base = file.parent / str(content.get("path") or "")
    if not content.get(split):
        given = ", ".join(name for name in SPLITS if content.get(name)) or "none"
        raise UserError(f"{file} has no split {split}: it has {given}")
    places = content[split] if isinstance(content[split], list) else [content[split]]
    images = [image for place in places for image in _images(base / str(place), file)]
    if not images:  # an empty list
        raise UserError(f"{file}: no image in its split {split}, {', '.join(map(str, places))}")
    labels = [label for image in images if (label := _label(image)).is_file()]
    made = as_json("yolo", [file, *images, *labels], [split], lambda: _coco(images, base, names))
    return made, str(base)


def _read(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
        refuse_repeated_keys(text, str(file))
        content = yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{file} cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} is no YOLO data.yaml: want names, and a folder of images for each split")
    return content


def _names(content: dict[str, Any], file: Path) -> list[str]:
    names = content.get("names")
    if isinstance(names, dict) and sorted(names) == list(range(len(names))):
        names = [names[number] for number in range(len(names))]
    if not (isinstance(names, list) and names):
        raise UserError(f"{file}: names is {names!r}: want a list, or a dict with the numbers from 0 on")
    if content.get("nc", len(names)) != len(names):
        raise UserError(f"{file}: nc is {content['nc']}, but there are {len(names)} names")
    return [str(name) for name in names]


def _images(place: Path, file: Path) -> list[Path]:
    if place.is_dir():
        return images_in(place)
    if place.suffix == ".txt" and place.is_file():
        lines = [line.strip() for line in read_text(place).splitlines()]
        # As YOLO reads them: ./ stands for the folder of the list.
        return [place.parent / line for line in lines if line]
    raise UserError(f"{file}: there is no {place}: want a folder of images, or a text file of their paths")


def _label(image: Path) -> Path:
    """The last folder images of the path is labels, the file's suffix .txt."""
    parts = list(image.parts)
    if "images" in parts[:-1]:
        parts[len(parts) - 2 - parts[-2::-1].index("images")] = "labels"
    return Path(*parts).with_suffix(".txt")


def _coco(images: Sequence[Path], base: Path, names: list[str]) -> dict[str, Any]:
    content: dict[str, Any] = {"images": [], "annotations": [], "categories": categories(names)}
    for number, image in enumerate(images, 1):
        height, width = image_size(image)
        # From the folder on, or whole: os.path.join takes both.
        name = str(image.relative_to(base) if image.is_relative_to(base) else image.absolute())
        content["images"].append({"id": number, "file_name": name, "height": height, "width": width})
        label = _label(image)
        lines = read_text(label).splitlines() if label.is_file() else []
        for place, line in enumerate(lines, 1):
            if line.strip():
                found = _object(line, f"{label}, line {place}", len(names), width, height)
                content["annotations"].append({"id": len(content["annotations"]) + 1, "image_id": number, **found})
    return content


def _object(line: str, where: str, classes: int, width: int, height: int) -> dict[str, Any]:
    try:
        kind, *numbers = map(float, line.split())
    except ValueError as error:
        raise UserError(f"{where}: {line.strip()[:60]!r}: want numbers") from error
    if kind not in range(classes):
        raise UserError(f"{where}: class {kind:g}, but names has those from 0 to {classes - 1}")
    if len(numbers) != 4 and (len(numbers) < 6 or len(numbers) % 2):
        raise UserError(f"{where}: {len(numbers)} numbers after the class: want a box, x y w h, or a polygon")
    if not all(-SLACK <= x <= 1 + SLACK for x in numbers):
        worst = max(numbers, key=lambda x: abs(x - 0.5))
        raise UserError(f"{where}: {worst:g} is no part of the image: want 0 to 1")
    if len(numbers) == 4:
        x, y, w, h = numbers
        return {"category_id": int(kind), "bbox": [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height]}
    xs, ys = [x * width for x in numbers[::2]], [y * height for y in numbers[1::2]]
    box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    polygon = [value for point in zip(xs, ys, strict=True) for value in point]
    return {"category_id": int(kind), "bbox": box, "segmentation": [polygon]}
