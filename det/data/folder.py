"""A folder of images without labels, for DATASETS.UNLABELED."""

from pathlib import Path
from typing import Any

from densedist.common.data.images import images_in
from densedist.det.data.written import as_json, image_size


def as_coco(path: str) -> tuple[str, str]:
    """The COCO JSON file of all images in a folder and those below it, without annotations; and the folder.

    Raises:
        UserError: there is none, or one that cannot be read.
    """
    root = Path(path).expanduser()
    images = images_in(root)
    return as_json("folder", images, [], lambda: _coco(root, images)), str(root)


def _coco(root: Path, images: list[Path]) -> dict[str, Any]:
    entries = []
    for number, image in enumerate(images, 1):
        height, width = image_size(image)
        name = str(image.relative_to(root))
        entries.append({"id": number, "file_name": name, "height": height, "width": width})
    return {"images": entries, "categories": []}
