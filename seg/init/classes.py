"""Which classes masks have: their numbers or colors, and their names where a file or a known data set says them."""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from densedist.common.config.files import CONFIGS, read_file
from densedist.common.data.headers import read_header
from densedist.common.data.images import check_images, is_hidden
from densedist.common.errors import UserError
from densedist.seg.data.frames import KINDS, Frame
from densedist.seg.data.label_images import has_colors, no_mask, occurring, read_label
from densedist.seg.init.palette import Color, distinct_colors
from densedist.seg.labels import IGNORE

MOST_COLORS = 64  # more are those of a photograph, or mixed by JPEG or resizing
BLACK_AND_WHITE = {0, 255}
VOID = ("void", "unlabeled", "unlabelled", "ignore", "ignored", "none", "unknown")
MOVE = 'in base.yaml, and move a number that means "no label" from CLASSES to IGNORED_IDS'
FILES = (".txt", ".csv")
DEPTH = 2  # of folders that are searched for a file of names
# Packaged data sets, and how many of its classes' labelIds are a sign of it.
KNOWN = {"cityscapes.yaml": 5, "voc.yaml": 2, "ade20k.yaml": 50}
CAMVID, CAMVID_SIZE = "seg/camvid_segnet/base.yaml", (360, 480)


@dataclass
class Classes:
    """Keys of DATASETS about the classes of masks.

    Args:
        classes: entries of DATASETS.CLASSES.
        ignored_ids, ignored_colors: what else occurs and does not count.
        note: what was guessed, and what to do about it; "" = nothing.
    """

    classes: list[dict[str, Any]]
    ignored_ids: list[int] = field(default_factory=list)
    ignored_colors: list[list[int]] = field(default_factory=list)
    note: str = ""


@dataclass(frozen=True)
class Seen:
    """What occurs in masks.

    Args:
        numbers: labelIds, or the indices of a palette.
        colors: of masks in color.
        palette: the color of each index, where masks have a palette.
    """

    numbers: frozenset[int]
    colors: frozenset[Color]
    palette: Mapping[int, Color]


def find_classes(folder: Path, frames: Sequence[Frame]) -> Classes:
    """Find the classes of masks: all of them are read.

    Args:
        folder: where a file of names may lie.

    Raises:
        UserError: a mask that cannot be read, more colors than classes have, or a single class.
    """
    seen = _look(frames)
    named = _names(folder)
    found = _of_colors(seen, named) if seen.colors else _of_numbers(seen, named, frames)
    if len(found.classes) < 2:
        name = found.classes[0]["name"] if found.classes else "no class"
        raise UserError(f"{folder}: all pixels of its masks are {name}: want two classes at least, background included")
    return found


def _look(frames: Sequence[Frame]) -> Seen:
    labels = [frame["label"] for frame in frames if frame["label"]]
    numbers: set[int] = set()
    colors: set[Color] = set()
    palette: dict[int, Color] = {}
    for of_numbers, of_colors, of_palette in check_images(labels, _occurring, "masks"):
        numbers |= of_numbers
        colors |= of_colors
        palette |= of_palette
        if len(colors) > MOST_COLORS:
            raise UserError(
                f"{labels[0]} and others have more than {MOST_COLORS} colors: want masks with one color or number for "
                "each class (resizing, and JPEG, mix colors)"
            )
    return Seen(frozenset(numbers), frozenset(colors), palette)


def _occurring(label: str) -> tuple[set[int], set[Color], dict[int, Color]]:
    try:
        header = read_header(label)
        if has_colors(header):
            if why := no_mask(header):
                raise UserError(f"{label} {why}")
            with Image.open(label) as image:
                pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
            return set(), {tuple(color) for color in np.unique(pixels, axis=0)[: MOST_COLORS + 1].tolist()}, {}
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(f"{label} cannot be read as an image: {error}") from error
    numbers, colors = read_label(label)
    there = np.flatnonzero(occurring(numbers)).tolist()
    return set(there), set(), {} if colors is None else {n: tuple(colors[n].tolist()) for n in there}


def _of_numbers(seen: Seen, named: Sequence["_Named"], frames: Sequence[Frame]) -> Classes:
    train_ids = any(frame.get("train_ids") for frame in frames)
    if known := _known(seen, frames, train_ids):
        return known
    numbers, ignored = sorted(seen.numbers), [IGNORE] if IGNORE in seen.numbers else []
    if seen.numbers == BLACK_AND_WHITE:
        ignored = []
    counted = [number for number in numbers if number not in ignored]
    by_number = {entry.number: entry.name for entry in named if entry.number is not None}
    ignored += [number for number in counted if by_number.get(number, "").lower() in VOID]
    counted = [number for number in counted if number not in ignored]
    if train_ids:  # the numbers are those of CLASSES
        counted = list(range(max(counted, default=0) + 1))
    classes = [
        {
            "name": by_number.get(number, _guessed(number, seen.numbers)),
            "ids": [number],
            "color": list(seen.palette.get(number, color)),
        }
        for number, color in zip(counted, distinct_colors(len(counted)), strict=True)
    ]
    bare = [number for number in counted if number not in by_number]
    shown = ", ".join(map(str, bare))
    note = (
        f"the masks have the numbers {shown}, and no file says what they mean: name the classes {MOVE}"
        if bare
        else _doubt(classes, "IGNORED_IDS")
    )
    return Classes(_told_apart(classes), [] if train_ids else ignored, note=note)


def _of_colors(seen: Seen, named: Sequence["_Named"]) -> Classes:
    by_color = {entry.color: entry.name for entry in named if entry.color is not None}
    void = [color for color, name in by_color.items() if name.lower() in VOID and color in seen.colors]
    colors = [color for color in by_color if color in seen.colors and color not in void]
    bare = sorted(seen.colors - set(by_color))
    classes = [{"name": by_color[color], "ids": [n], "color": list(color)} for n, color in enumerate(colors)]
    classes += [
        {"name": f"color {' '.join(map(str, color))}", "ids": [number], "color": list(color)}
        for number, color in enumerate(bare, len(colors))
    ]
    shown = ", ".join(str(list(color)) for color in bare)
    note = (
        f"the masks have the colors {shown}, and no file says what they mean: name the classes in base.yaml"
        if bare
        else _doubt(classes, "IGNORED_COLORS")
    )
    return Classes(classes, ignored_colors=[list(color) for color in void], note=note)


def _doubt(classes: Sequence[Mapping[str, Any]], key: str) -> str:
    """Return a note on the first class whose name has a word of VOID, as "void area"; "" where none has."""
    for name in (entry["name"] for entry in classes):
        if set(re.findall("[a-z]+", name.lower())) & set(VOID):
            return f"is {name} a class? If its pixels are unlabeled, move it from CLASSES to {key} in base.yaml"
    return ""


def _known(seen: Seen, frames: Sequence[Frame], train_ids: bool) -> Classes | None:
    """Return the classes of a packaged data set whose numbers, and colors, the masks have."""
    for name, least in KNOWN.items():
        found = _packaged(f"seg/data/{name}")
        colors = {entry["ids"][0]: tuple(entry["color"]) for entry in found.classes}
        meant = set(colors) | set(found.ignored_ids)
        counted = seen.numbers & set(colors)
        if train_ids or not (seen.numbers <= meant and len(counted) >= least):
            continue
        in_cityscapes = all(f["label"].removesuffix(Path(f["label"]).suffix).endswith(KINDS[0]) for f in frames)
        if name == "cityscapes.yaml" and in_cityscapes:
            return found
        if name == "ade20k.yaml" and all("annotations" in Path(frame["label"]).parts for frame in frames):
            return found
        if name == "voc.yaml" and all(seen.palette.get(number) == colors[number] for number in counted):
            return found
    camvid = _packaged(CAMVID)
    numbers = {number for entry in camvid.classes for number in entry["ids"]}
    is_camvid = all(Path(frame["label"]).parent.name.endswith("annot") for frame in frames)
    is_camvid = is_camvid and read_header(frames[0]["image"]).size == CAMVID_SIZE
    return camvid if is_camvid and seen.numbers <= numbers | set(camvid.ignored_ids) else None


def _packaged(config: str) -> Classes:
    node = read_file(str(CONFIGS / config))["DATASETS"]
    return Classes(node["CLASSES"], list(node.get("IGNORED_IDS", [])))


@dataclass(frozen=True)
class _Named:
    """A name in a file, with the number or the color of its class."""

    name: str
    number: int | None = None
    color: Color | None = None


def _names(folder: Path) -> list[_Named]:
    """Return the classes that the first file of names in a folder has; empty if there is none."""
    places = [file for depth in range(DEPTH) for file in sorted(folder.glob("*/" * depth + "*"))]
    for file in places:
        if file.suffix in FILES and file.is_file() and not is_hidden(file.relative_to(folder)):
            lines = [line.strip() for line in file.read_text(encoding="utf-8", errors="replace").splitlines()]
            if found := _named([line for line in lines if line and not line.startswith("#")], file):
                return found
    return []


def _named(lines: Sequence[str], file: Path) -> list[_Named]:
    """Read a file of names; empty if it is none.

    Of each line: CVAT's name:r,g,b::, CamVid's "r g b name", class_dict.csv's name,r,g,b, Roboflow's number,name, or
    a name alone in a file that is called classes, labels or names.
    """
    entries = list(_entries(lines))
    if len(entries) >= max(1, len(lines) - 1):  # one line may be a head
        return entries if not any(count > 1 for count in Counter(e.name for e in entries).values()) else []
    called = re.search("class|label|names", file.stem.lower())
    if called and lines and all(len(line) < 60 and "/" not in line and "," not in line for line in lines):
        return [_Named(line, number) for number, line in enumerate(lines)]
    return []


def _entries(lines: Sequence[str]) -> Iterator[_Named]:
    for line in lines:
        if found := re.fullmatch(r"([^:]+):(\d+),(\d+),(\d+):.*", line):
            yield _Named(found[1].strip(), color=_bytes(found.groups()[1:]))
        elif found := re.fullmatch(r"(\d+)\s+(\d+)\s+(\d+)\s+(\S.*)", line):
            yield _Named(found[4].strip(), color=_bytes(found.groups()[:3]))
        elif "," in line:
            cells = [cell.strip() for cell in next(csv.reader([line]))]
            if len(cells) == 4 and all(cell.isdigit() for cell in cells[1:]):
                yield _Named(cells[0], color=_bytes(cells[1:]))
            elif len(cells) == 2 and cells[0].isdigit():
                yield _Named(cells[1], int(cells[0]))


def _bytes(texts: Sequence[str]) -> Color:
    return tuple(int(text) for text in texts)


def _guessed(number: int, numbers: frozenset[int]) -> str:
    if numbers == BLACK_AND_WHITE:
        return "background" if number == 0 else "object"
    return f"class {number}"


def _told_apart(classes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return classes that have different colors: those of a palette may be the same, as in a gray one of one entry."""
    if len({tuple(entry["color"]) for entry in classes}) == len(classes):
        return classes
    colors = distinct_colors(len(classes))
    return [entry | {"color": list(color)} for entry, color in zip(classes, colors, strict=True)]
