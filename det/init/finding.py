"""Which data sets of detection lie in a folder: YOLO's, COCO's or Pascal VOC's, each read by its own reader."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from densedist.common.data.images import evenly, images_in, is_hidden
from densedist.common.data.voc_lists import IMAGES
from densedist.common.errors import UserError
from densedist.common.init.splits import TEST, TRAIN, VAL, split_of
from densedist.det.data.coco import Coco, image_file, read_coco
from densedist.det.data.formats import FORMATS
from densedist.det.data.voc import ANNOTATIONS, LISTS
from densedist.det.data.yolo import SPLITS

WANTED = (
    "want COCO's JSON files with their images, YOLO's data.yaml, or VOC's JPEGImages, Annotations and ImageSets/Main"
)
DEPTH = 3  # of folders that are searched for annotations
HEAD = 4096  # bytes of a JSON file that say whether it may be COCO's
COCO_WORDS = re.compile(rb'"(images|annotations|categories|info|licenses)"')
LOOKED_AT = 20  # images of a file by which its folder is found


@dataclass(frozen=True)
class DataSet:
    """A data set that was found.

    Args:
        split: TRAIN, VAL or TEST.
        where: the items of its entry in DATASETS behind its name.
        coco: its content.
        files: its images.
    """

    split: str
    where: Sequence[str]
    coco: Coco
    files: Sequence[Path]


@dataclass(frozen=True)
class Found:
    """All data sets of one format.

    Args:
        key: the key of DATASETS that names them.
        form: the format in words.
        sets: by split.
        notes: what could not be read, or is not taken, and what to do about it.
    """

    key: str
    form: str
    sets: dict[str, DataSet]
    notes: list[str]


def find(folder: Path) -> Found:
    """Find the data sets in a folder: of YOLO's format, else of COCO's, else of VOC's.

    Raises:
        UserError: there is none; with what was seen, and why it is none.
    """
    notes: list[str] = []
    for form, key, candidates in (
        ("YOLO's format", "YOLO_FORMAT", _yolo),
        ("COCO's format", "COCO_FORMAT", _coco),
        ("Pascal VOC's format", "VOC_FORMAT", _voc),
    ):
        found = _read(key, candidates(folder, notes), notes)
        if found:
            return Found(key, form, found, notes)
    seen = [*notes, *_look_alikes(folder)]
    raise UserError(f"no data for detection is recognized in {folder}: {'; '.join(seen) or WANTED}")


Candidates = Iterator[tuple[str, Sequence[str]]]  # a split, and the items of an entry
Find = Callable[[Path, list[str]], Candidates]


def _read(key: str, candidates: Candidates, notes: list[str]) -> dict[str, DataSet]:
    """Read what can be read, by split; what cannot is noted."""
    found: dict[str, DataSet] = {}
    for split, where in candidates:
        if split in found:
            notes.append(f"{where[0]} is not taken, as {found[split].where[0]} is of {split}, too: choose in base.yaml")
            continue
        try:
            json_file, root = FORMATS[key].read(*where)
            coco = read_coco(json_file)
        except UserError as error:
            notes.append(str(error))
            continue
        if not coco.has_labels:
            notes.append(f"{where[0]} has no annotations: its images can be DATASETS.UNLABELED of the student")
        elif not coco.images:
            notes.append(f"{where[0]} names no image")
        else:
            files = [Path(image_file(root, image["file_name"])) for image in coco.images]
            found[split] = DataSet(split, where, coco, files)
    return dict(sorted(found.items(), key=lambda item: (TRAIN, VAL, TEST).index(item[0])))


def _yolo(folder: Path, notes: list[str]) -> Candidates:
    for file in _below(folder, "*.y*ml"):
        try:
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError, yaml.YAMLError):
            continue
        if isinstance(content, dict) and "names" in content:
            given = content | ({"val": content["validation"]} if "validation" in content else {})
            for split in SPLITS:
                if given.get(split):
                    yield split, (str(file), split)


def _coco(folder: Path, notes: list[str]) -> Candidates:
    files = [file for file in _below(folder, "*.json") if _may_be_coco(file)]
    if not files:
        return
    images = images_in(folder)
    # Of several files of one split, those of objects go first, as instances_train2017.json.
    for file in sorted(files, key=lambda file: ("instances" not in file.name, file)):
        try:
            coco = read_coco(str(file))
        except UserError as error:
            notes.append(str(error))
            continue
        if not coco.images:
            notes.append(f"{file} names no image")
            continue
        inner = file.relative_to(folder)
        if (root := _root(coco, file, images)) is None:
            first = coco.images[0]["file_name"]
            notes.append(f"{file}: there is no image {first} in {folder}: put its images there")
            continue
        split = split_of(inner) or split_of(root.relative_to(folder) if root.is_relative_to(folder) else root.name)
        yield split or TRAIN, (str(file), str(root))


def _voc(folder: Path, notes: list[str]) -> Candidates:
    for place in [folder, *(path for path in sorted(folder.glob("*/")) if not is_hidden(Path(path.name)))]:
        if not ((place / IMAGES).is_dir() and (place / ANNOTATIONS).is_dir()):
            continue
        lists = sorted((place / LISTS).glob("*.txt"))
        named = {split: file for file in lists if (split := split_of(file.stem)) and "_" not in file.stem}
        for split, file in named.items():
            yield split, (str(place), file.stem)
        if not named:
            notes.append(
                f"{place}: there is no {LISTS}/train.txt, which names the images to train on, a NAME a line: write it"
            )


def _below(folder: Path, pattern: str) -> list[Path]:
    """List the files of a pattern in a folder, and in those below it, without those that are hidden."""
    found = [file for depth in range(DEPTH) for file in folder.glob("*/" * depth + pattern)]
    return sorted(file for file in found if file.is_file() and not is_hidden(file.relative_to(folder)))


def _may_be_coco(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return bool(COCO_WORDS.search(opened.read(HEAD)))
    except OSError:
        return False


def _root(coco: Coco, file: Path, images: Sequence[Path]) -> Path | None:
    """Return the folder that the names of a file's images start from; None if the first image is nowhere."""
    names = [image["file_name"].replace("\\", "/") for image in evenly(coco.images, LOOKED_AT)]
    first = Path(coco.images[0]["file_name"].replace("\\", "/"))
    parts = len(first.parts)
    roots = {image.parents[parts - 1] for image in images if image.parts[-parts:] == first.parts}

    def fits(root: Path) -> tuple[int, bool, bool, int]:
        there = sum((root / name).is_file() for name in names)
        near = len([one for one, other in zip(root.parts, file.parts, strict=False) if one == other])
        return there, split_of(root.name) == split_of(file.name), split_of(root.name) == split_of(file), near

    return max(sorted(roots), key=fits, default=None)


def _look_alikes(folder: Path) -> Iterator[str]:
    """Say what looks like annotations of a format that is not read as it lies there."""
    if texts := [file for file in _below(folder, "*.txt") if "labels" in file.parts]:
        yield (
            f"{texts[0]} and {len(texts) - 1} more look like YOLO's labels, but there is no data.yaml with names, "
            "train and val: write it"
        )
    if xml := _below(folder, "*.xml"):
        yield (
            f"{xml[0]} and {len(xml) - 1} more look like VOC's annotations: want them in {ANNOTATIONS}, the images in "
            f"{IMAGES}, and their names in {LISTS}/train.txt and val.txt"
        )
    if others := [file for file in _below(folder, "*.json") if not _may_be_coco(file)]:
        yield f"{others[0]} and {len(others) - 1} more JSON files are not COCO's: export the labels as COCO or YOLO"
