"""Ground truth in COCO format, in the one shape that everything after reading it sees."""

import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from densedist.common.data.packed import Mapped, kept, without_collector
from densedist.common.errors import UserError
from densedist.common.logging import logged_again, recorded
from densedist.det.data.coco_file import Content, read_content
from densedist.det.data.duplicates import Entry

LOGGER = "densedist.det.data"  # of what reading a file has to say
LARGE = 2**23  # bytes of a file from which on it is packed, in the user's cache
FORM = "1"  # of what is packed


@dataclass(frozen=True)
class Columns:
    """What all annotations have, in the order of the file.

    Args:
        boxes: x, y, width and height in pixels (N, 4), float64.
        images: the number of the image of each, by the order of Coco.images (N,).
        crowds: which are crowds (N,), bool.
        categories: the category_id of each.
    """

    boxes: np.ndarray
    images: np.ndarray
    crowds: np.ndarray
    categories: Sequence[Any]

    @classmethod
    def of(cls, annotations: Iterable[tuple[int, Entry]]) -> "Columns":
        """Return the columns of annotations, each with the number of its image."""
        boxes, images, crowds, categories = array("d"), array("q"), array("b"), []
        for number, annotation in annotations:
            boxes.extend(annotation["bbox"])
            images.append(number)
            crowds.append(annotation["iscrowd"])
            categories.append(annotation["category_id"])
        flat = np.frombuffer(boxes, np.float64) if boxes else np.zeros(0)
        numbers = np.frombuffer(images, np.int64) if images else np.zeros(0, np.int64)
        flags = np.frombuffer(crowds, np.int8).astype(bool) if crowds else np.zeros(0, bool)
        return cls(flat.reshape(-1, 4), numbers, flags, categories)


@dataclass(frozen=True)
class Coco:
    """Images, categories and annotations, in COCO's format.

    Whatever the file had, ids of images and categories are whole numbers, those of annotations count from 1 (for
    pycocotools an object 0 is never found), names are text, every annotation has its area in pixels and an iscrowd of
    0 or 1, and a segmentation is one that can be read, or not there. A crowd without one has its box as its mask, which
    pycocotools asks for. An image is listed once. "given" is the id that the file has.

    Args:
        source: the file.
        of_images: the annotations of each image.
        columns: what the checks ask of all annotations at once.
        has_labels: whether the file has annotations at all, if only none.
        renumbered: whether images or categories have other ids than in the file.
        duplicates: how many listings of images the file has after the first one of each.
        numbered: whether the ids of annotations count them in the order of the file; else they lie in it by image.
    """

    source: str
    images: Sequence[Entry]
    categories: list[Entry]
    of_images: Sequence[Sequence[Entry]]
    columns: Columns
    has_labels: bool = True
    renumbered: bool = False
    duplicates: int = 0
    numbered: bool = True

    @cached_property
    def annotations(self) -> list[Entry]:
        """Return all annotations in the order of the file; of a large data set they take gigabytes."""
        with without_collector():
            return self.in_order(self.each())

    @property
    def objects(self) -> list[Entry]:
        """Return the annotations that can be learned and found: no crowds."""
        return [annotation for annotation in self.annotations if not annotation["iscrowd"]]

    @property
    def object_count(self) -> int:
        """Return how many annotations can be learned and found."""
        return int((~self.columns.crowds).sum())

    @cached_property
    def sizes(self) -> np.ndarray:
        """Return height and width of each image (n, 2)."""
        return np.array([(i["height"], i["width"]) for i in self.images], np.float64).reshape(-1, 2)

    def each(self) -> Iterator[Entry]:
        """Yield all annotations, image by image: of a large data set they are not in memory at a time."""
        return chain.from_iterable(self.of_images)

    def in_order(self, annotations: Iterable[Entry]) -> list[Entry]:
        """Return some of the annotations in the order of the file."""
        return sorted(annotations, key=lambda a: a["id"]) if self.numbered else list(annotations)

    def part(self, start: int | None, stop: int | None) -> "Coco":
        """Return a slice of the images, in the order of their ids, with their annotations."""
        numbers = range(*slice(start, stop).indices(len(self.images)))
        if len(numbers) == len(self.images):
            return self
        there = (self.columns.images >= numbers.start) & (self.columns.images < numbers.stop)
        columns = Columns(
            self.columns.boxes[there],
            self.columns.images[there] - numbers.start,
            self.columns.crowds[there],
            [self.columns.categories[number] for number in there.nonzero()[0].tolist()],
        )
        of_images = Mapped(self.of_images.__getitem__, numbers)
        return replace(self, images=self.images[start:stop], of_images=of_images, columns=columns)

    @property
    def names(self) -> list[str]:
        """Return the names of the classes, in the order of their numbers."""
        return [category["name"] for category in self.categories]


def read_coco(json_file: str) -> Coco:
    """Read the ground truth of a file in COCO format; a file that has not changed is not read again.

    Raises:
        UserError: it cannot be read, is no JSON, has no such entries, or they contradict each other.
    """
    try:
        about = os.stat(json_file)
    except OSError as error:
        raise UserError(f"{json_file} cannot be read: {error.strerror}") from error
    return _read(json_file, about.st_mtime_ns, about.st_size)


def image_file(root: str, name: str) -> str:
    """Return the path of an image: its name in the root, or, where there is no such file, its name decoded.

    Windows writes a backslash for a slash; what is made for the web writes a blank as %20.
    """
    file = os.path.join(root, name)
    if ("\\" not in name and "%" not in name) or os.path.isfile(file):
        return file
    slashed = name.replace("\\", "/")
    others = (os.path.join(root, other) for other in (slashed, unquote(name), unquote(slashed)))
    return next((other for other in others if os.path.isfile(other)), file)


def forget() -> None:
    """Give back the memory of all files that were read."""
    _read.cache_clear()


@lru_cache(maxsize=4)
def _read(json_file: str, _: int, size: int) -> Coco:
    with without_collector():
        if size < LARGE:
            content = read_content(json_file)
            columns = _columns(content)
            return _coco(json_file, content, list(_by_image(content)), columns)
        found = kept("coco", Path(json_file), [FORM, json_file], lambda: _to_pack(json_file))
    content, columns, said = found.head
    if not found.new:
        logged_again(said)
    return _coco(json_file, content, found, columns)


def _to_pack(json_file: str) -> tuple[Any, Iterator[list[Entry]]]:
    """Return what is known of all annotations, and those of each image."""
    with recorded(LOGGER) as said:
        content = read_content(json_file)
    return (replace(content, annotations=[]), _columns(content), said), _by_image(content)


def _coco(json_file: str, content: Content, of_images: Sequence[Sequence[Entry]], columns: Columns) -> Coco:
    about = content.has_labels, content.renumbered, content.duplicates
    return Coco(json_file, content.images, content.categories, of_images, columns, *about)


def _columns(content: Content) -> Columns:
    numbers = {image["id"]: number for number, image in enumerate(content.images)}
    return Columns.of((numbers[a["image_id"]], a) for a in content.annotations)


def _by_image(content: Content) -> Iterator[list[Entry]]:
    """Yield the annotations of each image, and let go of them."""
    found: dict[Any, list[Entry]] = {image["id"]: [] for image in content.images}
    for annotation in content.annotations:
        found[annotation["image_id"]].append(annotation)
    content.annotations.clear()
    for image in content.images:
        yield found.pop(image["id"])
