"""An image that is listed several times, in one file or in several, is one image with the annotations of all."""

import logging
import os
from collections.abc import Sequence
from typing import Any

from densedist.common.errors import UserError

logger = logging.getLogger(__name__)
Entry = dict[str, Any]


def merge_duplicates(
    images: Sequence[Entry], annotations: Sequence[Entry], source: str
) -> tuple[list[Entry], list[Entry], int]:
    """Return images and annotations with each file listed once, by its first id, and how many listings are gone.

    An object that two listings of an image have in common is one object. Annotations are counted from 1.

    Args:
        images, annotations: in the form of Coco; equal names of files mean the same file.
        source: for messages.

    Raises:
        UserError: listings of one file that differ in its size.
    """
    first: dict[str, Entry] = {}
    listings: dict[int, int] = {}  # the id of each listing: that of the image
    for image in images:
        known = first.setdefault(os.path.normpath(image["file_name"].replace("\\", "/")), image)
        if (known["height"], known["width"]) != (image["height"], image["width"]):
            sizes = " and ".join(f"{one['width']}x{one['height']}" for one in (known, image))
            raise UserError(f"{source}: {image['file_name']} is listed twice, with {sizes} pixels: correct one of them")
        listings[image["id"]] = known["id"]
    gone = len(images) - len(first)
    if not gone:
        return list(images), list(annotations), 0
    several = {known for listing, known in listings.items() if listing != known}
    kept: list[Entry] = []
    seen: dict[str, int] = {}  # each object of an image that is listed several times: the listing that it is of
    for annotation in annotations:
        listing = annotation["image_id"]
        of_image = listings[listing]
        about = str([of_image, *(annotation.get(key) for key in ("category_id", "bbox", "iscrowd", "segmentation"))])
        if of_image not in several or seen.setdefault(about, listing) == listing:
            kept.append(annotation | {"id": len(kept) + 1, "image_id": of_image})
    same = len(annotations) - len(kept)
    also = f", without {same} that are the same" if same else ""
    logger.warning(
        f"{source}: {len(several)} images are listed several times: each is used once, with all its annotations{also}"
    )
    return list(first.values()), kept, gone
