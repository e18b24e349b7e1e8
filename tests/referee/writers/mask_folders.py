"""Folders of images and masks, as people lay them out: two folders, VOC, ADE20K, Cityscapes."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from referee.scenes import World
from referee.situations import Choices, Form, Handed
from referee.writers import masks, numbering, pictures

# Names of files, by their number.
STEMS: Mapping[str, Callable[[int], str]] = {
    "numbers": lambda n: f"{n:03}",
    "numbers of any width": lambda n: str(8 + n),
    "blanks": lambda n: f"a b {n}",
    "points": lambda n: f"v1.0.{n}",
    "other letters": lambda n: f"größe{n}",
    "capitals": lambda n: f"IMG_{n}",
    "signs": lambda n: f"a(1)[2]#{n}&'+,;=@~",
    "long": lambda n: "x" * 120 + str(n),
    "folders": lambda n: f"town{n % 2}/{n}",
    "the same in two folders": lambda n: f"town{n}/a",
    "minus": lambda n: f"-{n}",
    "ends in a suffix": lambda n: f"{n}.jpg",
    "begin alike": lambda n: "a" * (n + 1),
}
JUNK = (
    "none",
    "macOS",
    "Jupyter",
    "Windows",
    "notes",
    "other masks",
    "a second image of one mask",
    "an empty folder",
    "a hidden folder",
)
MAY_JUNK = frozenset({("junk", "a second image of one mask"), ("junk", "other masks"), ("junk", "macOS")})


def add_junk(junk: str, folders: Sequence[Path]) -> None:
    """What lies among other people's files and is none of them."""
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        first = next((file for file in sorted(folder.rglob("*")) if file.is_file()), None)
        if junk == "macOS" and first:
            (first.parent / f"._{first.name}").write_bytes(b"\0\5\26\7\0\2\0\0Mac OS X")
            (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
        if junk in ("Jupyter", "a hidden folder") and first:
            hidden = folder / {"Jupyter": ".ipynb_checkpoints", "a hidden folder": ".cache"}[junk]
            hidden.mkdir()
            (hidden / f"{first.stem}-checkpoint{first.suffix}").write_bytes(first.read_bytes())
        if junk == "Windows":
            (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
            (folder / "desktop.ini").write_text("[ViewState]")
        if junk == "notes":
            (folder / "readme.txt").write_text("drawn by hand\n")
            (folder / "classes.csv").write_text("0,road\n")
        if junk == "an empty folder":
            (folder / "empty").mkdir()
    if junk == "other masks" and len(folders) > 1:
        first = next(file for file in sorted(folders[1].rglob("*")) if file.is_file())
        (folders[1] / f"of_no_image{first.suffix}").write_bytes(first.read_bytes())
    if junk == "a second image of one mask":
        first = next(file for file in sorted(folders[0].rglob("*")) if file.is_file())
        other = np.full((*pictures.shown(first).shape[:2], 3), 7, np.uint8)
        suffix = ".bmp" if first.suffix != ".bmp" else ".png"
        pictures.write(first.parent, first.stem, other, "OpenCV", suffix[1:])


def two_folders(world: World, folder: Path, choices: Choices, library: str) -> Handed:
    """images/ and masks/ with files of the same names."""
    images, level = _images(world, folder / "images", choices)
    kind = masks.KINDS[library][choices["mask"]]
    _masks(world, choices, kind, folder / "masks", "{}")
    add_junk(choices["junk"], [folder / "images", folder / "masks"])
    data = {"FOLDERS": [["mine", str(folder / "images"), str(folder / "masks")]], "ROOT": ""}
    return _handed(world, choices, data, ["mine"], images, level, unnamed="images")


def black_and_white(world: World, folder: Path, choices: Choices) -> Handed:
    """Masks of one bit: two classes, 0 and 1."""
    images, level = _images(world, folder / "images", choices)
    _masks(world, {**choices, "numbering": "from 0"}, masks.BLACK_AND_WHITE[choices["mask"]], folder / "masks", "{}")
    data = {"FOLDERS": [["mine", str(folder / "images"), str(folder / "masks")]], "ROOT": ""}
    return _handed(world, {**choices, "numbering": "from 0"}, data, ["mine"], images, level, unnamed="images")


def voc(world: World, folder: Path, choices: Choices) -> Handed:
    """VOCdevkit/VOC2012, with a list of names."""
    images, level = _images(world, folder / "JPEGImages", choices)
    _masks(world, choices, masks.KINDS["Pillow"][choices["mask"]], folder / choices["folder"], "{}")
    names = [STEMS[choices["stem"]](number) for number in range(len(world.scenes))]
    write_list(folder / "ImageSets" / "Segmentation" / "train.txt", names, choices["list"], choices["folder"])
    add_junk(choices["junk"], [folder / "JPEGImages", folder / choices["folder"]])
    entry = ["mine", str(folder), "train", *([] if choices["folder"] == "SegmentationClass" else [choices["folder"]])]
    return _handed(world, choices, {"VOC_FORMAT": [entry], "ROOT": ""}, ["mine"], images, level)


LISTS = (
    "names",
    "no end of line",
    "CRLF",
    "blank lines",
    "byte order mark",
    "blanks behind",
    "paths",
    "suffixes",
    "image and mask",
    "a name twice",
    "UTF-16",
)
MAY_LISTS = frozenset({("list", "a name twice"), ("list", "UTF-16"), ("list", "paths"), ("list", "suffixes")}) | {
    ("list", "image and mask")
}


def write_list(file: Path, names: Sequence[str], kind: str, masks_in: str = "SegmentationClass") -> None:
    """The names of a split, a line each."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = {
        "paths": [f"JPEGImages/{name}.jpg" for name in names],
        "suffixes": [f"{name}.jpg" for name in names],
        "image and mask": [f"/JPEGImages/{name}.jpg /{masks_in}/{name}.png" for name in names],
        "a name twice": [*names, names[0]],
        "blanks behind": [f"{name}  " for name in names],
        "blank lines": ["", *(f"{name}\n" for name in names), ""],
    }.get(kind, list(names))
    text = "\n".join(lines) + ("" if kind == "no end of line" else "\n")
    if kind == "CRLF":
        text = text.replace("\n", "\r\n")
    encoding = {"byte order mark": "utf-8-sig", "UTF-16": "utf-16"}.get(kind, "utf-8")
    file.write_bytes(text.encode(encoding))


def ade20k(world: World, folder: Path, choices: Choices) -> Handed:
    """ADEChallengeData2016."""
    images, level = _images(world, folder / "images" / "training", choices)
    where = folder / "annotations" / "training"
    _masks(world, choices, masks.KINDS["OpenCV"][choices["mask"]], where, "{}")
    add_junk(choices["junk"], [folder / "images" / "training", where])
    data = {"ADE20K_FORMAT": [["mine", str(folder), "training"]], "ROOT": ""}
    return _handed(world, choices, data, ["mine"], images, level, unnamed="images")


def cityscapes(world: World, folder: Path, choices: Choices, train_ids: bool = False) -> Handed:
    """leftImg8bit and gtFine, with what cityscapesscripts writes beside the labels."""
    town = {"several": ["aachen", "bochum"], "one": ["town"], "of the same frames": ["a", "b", "c", "d"]}[
        choices["towns"]
    ]
    part = choices["part"]
    reference, level = [], 0
    for number, scene in enumerate(world.scenes):
        place = town[number % len(town)]
        count = 0 if choices["towns"] == "of the same frames" else number
        stem = f"{place if choices['towns'] != 'of the same frames' else 'x'}_{count:06}_000019"
        at = folder / "leftImg8bit" / "train" / place
        _, pixels, off = pictures.write(at, f"{stem}_leftImg8bit", scene.image, "Pillow", choices["image"])
        reference.append(pixels)
        level = max(level, off)
        kind = masks.KINDS["Pillow"][choices["mask"]]
        beside = folder / part / "train" / place
        beside.mkdir(parents=True, exist_ok=True)
        ids = numbering.label_ids(world, choices["numbering"])[number]
        table = numbering.colors(world, choices["numbering"])
        if choices["beside"] == "all":
            masks.KINDS["Pillow"]["png, colors"].write(beside / f"{stem}_{part}_color.png", ids, table)
            masks.KINDS["Pillow"]["png, 16 bits"].write(beside / f"{stem}_{part}_instanceIds.png", ids, table)
            (beside / f"{stem}_{part}_polygons.json").write_text("{}")
        if train_ids or choices["beside"] == "all":
            own = numbering.label_ids(world, "from 0")[number]
            kind.write(beside / f"{stem}_{part}_labelTrainIds{kind.suffix}", own, table)
        if not train_ids or choices["beside"] == "all":
            kind.write(beside / f"{stem}_{part}_labelIds{kind.suffix}", ids, table)
    unread = ("_color", "_instanceIds", "_labelIds" if train_ids else "_labelTrainIds")
    data = {"ROOT": str(folder), "LABELS": "labelTrainIds" if train_ids else "labelIds"}
    return _handed(world, choices, data, ["train"], reference, level, "leftImg8bit", unread)


def _images(world: World, folder: Path, choices: Choices) -> tuple[list[np.ndarray], int]:
    library = choices.get("library", "Pillow")
    written = [
        pictures.write(folder, STEMS[choices["stem"]](number), scene.image, library, choices["image"])
        for number, scene in enumerate(world.scenes)
    ]
    return [pixels for _, pixels, _ in written], max(level for *_, level in written)


def _masks(world: World, choices: Choices, kind: masks.Kind, folder: Path, name: str) -> None:
    table = numbering.colors(world, choices["numbering"])
    for number, ids in enumerate(numbering.label_ids(world, choices["numbering"])):
        file = folder / f"{name.format(STEMS[choices['stem']](number))}{kind.suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        kind.write(file, ids, table)


def _handed(
    world: World,
    choices: Choices,
    data: Mapping[str, Any],
    sides: list[str],
    images: list[np.ndarray],
    level: int,
    unnamed: str = "",
    unread: tuple[str, ...] = (),
) -> Handed:
    section = {**data, **numbering.classes(world, choices["numbering"]), "TRAIN": sides, "TEST": sides}
    return Handed({"DATASETS": section}, world.names, tuple(images), level=level, unnamed=unnamed, unread=unread)


MASKS_FEW = ("png", "png, palette", "png, palette of the classes' colors", "tif", "bmp")
IMAGES_FEW = ("png", "jpg", "jpg, gray", "JPG in capitals", "tif", "bmp", "png, palette", "png, alpha")


def _folders_of(library: str, numberings: Sequence[str] = numbering.NUMBERINGS, **drawn: Any) -> Form:
    choices = {
        "mask": tuple(masks.KINDS[library]),
        "numbering": numberings,
        "stem": tuple(STEMS),
        "image": IMAGES_FEW,
        "junk": JUNK,
    }
    may = masks.may("mask", library) | MAY_JUNK
    return Form(f"folders, masks by {library}", partial(two_folders, library=library), choices, may, drawn)


def _images_of(library: str) -> Form:
    def write(world: World, folder: Path, choices: Choices) -> Handed:
        usual = {"mask": "png", "numbering": "from 1", "junk": "none", "library": library}
        return two_folders(world, folder, {**usual, **choices}, "Pillow")

    choices = {"image": tuple(pictures.KINDS[library]), "stem": tuple(STEMS)}
    return Form(f"folders, images by {library}", write, choices, pictures.may("image", library))


FORMS = (
    *(_folders_of(library) for library in ("Pillow", "OpenCV", "imageio", "tifffile")),
    _folders_of("a PNG exporter", ("from 1",), classes=3),
    *(_images_of(library) for library in pictures.KINDS),
    Form(
        "folders, masks of one bit",
        black_and_white,
        {"mask": tuple(masks.BLACK_AND_WHITE), "stem": ("numbers", "blanks"), "image": IMAGES_FEW},
        frozenset(("mask", name) for name, kind in masks.BLACK_AND_WHITE.items() if kind.may),
        {"classes": 2, "ignored": False},
    ),
    Form(
        "VOC, by hand",
        voc,
        {
            "mask": MASKS_FEW,
            "image": ("jpg", "png", "JPG in capitals", "tif"),
            "numbering": numbering.NUMBERINGS,
            "stem": tuple(STEMS),
            "list": LISTS,
            "folder": ("SegmentationClass", "SegmentationClassAug", "my masks"),
            "junk": JUNK,
        },
        MAY_LISTS | MAY_JUNK | {("stem", "blanks"), ("stem", "ends in a suffix")},
    ),
    Form(
        "ADE20K, by hand",
        ade20k,
        {
            "mask": ("png", "png, 16 bits", "tif", "bmp", "jpg"),
            "image": ("jpg", "png", "jpg, gray", "JPG in capitals"),
            "numbering": ("all are named", *numbering.NUMBERINGS[:-1]),
            "stem": tuple(STEMS),
            "junk": JUNK,
        },
        MAY_JUNK | {("mask", "jpg")},
    ),
    Form(
        "Cityscapes, by hand",
        cityscapes,
        {
            "mask": MASKS_FEW,
            "image": ("png", "jpg", "tif"),
            "numbering": numbering.NUMBERINGS,
            "towns": ("several", "one", "of the same frames"),
            "part": ("gtFine", "gtCoarse"),
            "beside": ("none", "all"),
        },
    ),
    Form(
        "Cityscapes, trainIds",
        partial(cityscapes, train_ids=True),
        {
            "mask": MASKS_FEW,
            "image": ("png", "jpg"),
            "numbering": ("sparse", "from 1"),
            "towns": ("several", "one", "of the same frames"),
            "part": ("gtFine", "gtCoarse"),
            "beside": ("none", "all"),
        },
    ),
)
