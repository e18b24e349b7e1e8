"""Several COCO JSON files that are one data set."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from densedist.common.errors import UserError
from densedist.det.data.boxes import other_form
from densedist.det.data.coco import image_file, read_coco
from densedist.det.data.twins import merge_twins
from densedist.det.data.written import as_json, categories

KEY = "DATASETS.COCO_FORMAT"


def as_coco(json_files: str | Sequence[str], folders: str | Sequence[str]) -> tuple[str, str]:
    """The COCO JSON file that they come to, and a folder of its images; one file is itself.

    An image that several files have is one image, with the annotations of all.

    Args:
        folders: of the images, one for each file, or one for all.

    Raises:
        UserError: a file that cannot be read, another number of folders, files with different categories, or boxes of
            one file in another form.
    """
    if isinstance(json_files, str) and isinstance(folders, str):
        return json_files, folders
    files = [json_files] if isinstance(json_files, str) else list(json_files)
    roots = [folders] * len(files) if isinstance(folders, str) else list(folders)
    if not files or len(files) != len(roots):
        raise UserError(f"{KEY}: {len(files)} JSON files, but {len(roots)} folders: want one for each, or one for all")
    made = as_json("joined", [Path(file) for file in files], roots, lambda: _join(files, roots))
    return made, roots[0]


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
    images, annotations, _ = merge_twins(images, annotations, " and ".join(files))
    content = {"images": images, "categories": categories(names)}
    return content | ({"annotations": annotations} if any(read_coco(file).has_labels for file in files) else {})
