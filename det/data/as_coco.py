"""Data sets of other formats, several files, or a folder of images, written as one COCO JSON into the user's cache."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from densedist.common.data import digits
from densedist.common.data.headers import Size, read_header
from densedist.common.data.images import images_in
from densedist.common.errors import UserError
from densedist.common.files import write_text
from densedist.det.data.boxes import other_form
from densedist.det.data.coco import image_file, read_coco
from densedist.det.data.duplicates import merge_duplicates

VERSION = 2  # of what is written
KEY = "DATASETS.COCO_FORMAT"


def of_files(json_files: str | Sequence[str], folders: str | Sequence[str]) -> tuple[str, str]:
    """Return the path of a COCO JSON file with all of the files in it, and a folder of images; one file is itself.

    An image that several files have is one image, with the annotations of all.

    Args:
        folders: of the images, one for each file, or one for all.

    Raises:
        UserError: a file that cannot be read, another number of folders, files with different categories, or boxes of
            one file in another format.
    """
    if isinstance(json_files, str) and isinstance(folders, str):
        return json_files, folders
    files = [json_files] if isinstance(json_files, str) else list(json_files)
    roots = [folders] * len(files) if isinstance(folders, str) else list(folders)
    if not files or len(files) != len(roots):
        raise UserError(f"{KEY}: {len(files)} JSON files, but {len(roots)} folders: want one for each, or one for all")
    made = as_json("joined", [Path(file) for file in files], roots, lambda: _join(files, roots))
    return made, roots[0]


def of_folder(path: str) -> tuple[str, str]:
    """Return the path of a COCO JSON file of all images in a folder and below, without annotations, and the folder.

    Raises:
        UserError: there is none, or one that cannot be read.
    """
    root = Path(path).expanduser()
    images = images_in(root)
    return as_json("folder", images, [], lambda: _coco(root, images)), str(root)


def as_json(form: str, files: Sequence[Path], parts: Iterable[str], make: Callable[[], dict[str, Any]]) -> str:
    """Return the path of a JSON file with what make() gives; make() is called again when a file has changed.

    Args:
        form: the name of the form.
        files: whose names, sizes and times of change decide, with parts, whether it is written anew.
        parts: what else decides.
    """
    digest = hashlib.sha256(f"{VERSION} {form}".encode())
    for part in parts:
        digest.update(f"\0{part}".encode())
    for file in files:
        try:
            about = os.stat(file)
        except OSError as error:
            raise UserError(f"{file} cannot be read: {error.strerror}") from error
        digest.update(f"\0{file.absolute()}\0{about.st_size}\0{about.st_mtime_ns}".encode())
    path = digits.root().parent / "data" / f"{form}-{digest.hexdigest()[:24]}.json"
    if not path.is_file():
        content = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(content))
    return str(path)


def image_size(path: Path) -> Size:
    """Return height and width, as Detectron2 reads the file.

    Raises:
        UserError: no image.
    """
    try:
        return read_header(str(path)).size
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(f"{path} cannot be read as an image: {error}") from error


def categories(names: Sequence[str]) -> list[dict[str, Any]]:
    """Return COCO's entries for classes, numbered from 0."""
    return [{"id": number, "name": str(name)} for number, name in enumerate(names)]


def _join(files: Sequence[str], roots: Sequence[str]) -> dict[str, Any]:
    names = read_coco(files[0]).names
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for file, root in zip(files, roots, strict=True):
        coco = read_coco(file)
        if why := other_form(coco):  # in the other files' company it would not show
            raise UserError(f"{KEY}: the boxes of {file} are not [x, y, w, h] in pixels: {why}")
        if sorted(coco.names) != sorted(names):
            other = sorted(set(coco.names) ^ set(names))[0]
            raise UserError(
                f"{KEY}: {file} and {files[0]} have different categories, first {other}: an object that only one of "
                "them names would be background in the other; give both the same"
            )
        classes = {category["id"]: names.index(category["name"]) for category in coco.categories}
        ids = {image["id"]: number for number, image in enumerate(coco.images, len(images) + 1)}
        for image in coco.images:
            place = str(Path(image_file(root, image["file_name"])).absolute())
            images.append(image | {"id": ids[image["id"]], "file_name": place})
        for annotation in coco.annotations:
            new = {"image_id": ids[annotation["image_id"]], "category_id": classes[annotation["category_id"]]}
            annotations.append(annotation | new | {"id": len(annotations) + 1})
    images, annotations, _ = merge_duplicates(images, annotations, " and ".join(files))
    content = {"images": images, "categories": categories(names)}
    return content | ({"annotations": annotations} if any(read_coco(file).has_labels for file in files) else {})


def _coco(root: Path, images: list[Path]) -> dict[str, Any]:
    entries = []
    for number, image in enumerate(images, 1):
        height, width = image_size(image)
        name = str(image.relative_to(root))
        entries.append({"id": number, "file_name": name, "height": height, "width": width})
    return {"images": entries, "categories": []}
