"""YOLO's format as it is written by hand, after Ultralytics' docs, by Roboflow and by CVAT."""

from pathlib import Path
from typing import Any

import yaml

from referee.scenes import Scene, Thing, World
from referee.situations import Choices, Form, Handed
from referee.writers import pictures
from referee.writers.mask_folders import STEMS, add_junk

LAYOUTS = (
    "images/train",
    "train/images",
    "a list",
    "a list of whole paths",
    "several folders",
    "no path",
    "whole path",
    "Roboflow",
    "CVAT",
    "images alone",
)
NAMES = ("list", "by number", "by number, shuffled", "unquoted")
LINES = (
    "boxes",
    "polygons",
    "both",
    "keypoints",
    "keypoints, seen or not",
    "a confidence",
    "many digits",
    "short",
    "with a point",
    "exponents",
    "tabs",
    "CRLF",
    "blank lines",
    "no end of line",
    "byte order mark",
)
WITHOUT = ("empty file", "no file")
MORE = ("nothing", "nc", "all", "nc is wrong")


def by_hand(world: World, folder: Path, choices: Choices) -> Handed:
    """data.yaml, images and labels; crowds cannot be said, and are not written."""
    layout = choices["layout"]
    images, labels = {
        "train/images": ("train/images", "train/labels"),
        "Roboflow": ("train/images", "train/labels"),
        "images alone": ("images", "labels"),
    }.get(layout, ("images/train", "labels/train"))
    reference, level, files = [], 0, []
    for number, scene in enumerate(world.scenes):
        piece = f"/{number % 2}" if layout == "several folders" else ""
        stem = STEMS[choices["stem"]](number)
        file, pixels, off = pictures.write(folder / f"{images}{piece}", stem, scene.image, "Pillow", choices["image"])
        files.append(file)
        reference.append(pixels)
        level = max(level, off)
        label = folder / f"{labels}{piece}" / f"{stem}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        lines = [_line(scene, thing, n, world, choices["lines"]) for n, thing in enumerate(_written(scene))]
        if lines or choices["without"] == "empty file":
            label.write_bytes(_text(lines, choices["lines"]))
    add_junk(choices["junk"], [folder / images])
    _describe(world, folder, images, files, choices)
    keypoints = choices["lines"].startswith("keypoints")
    data = {"YOLO_FORMAT": [["mine", str(folder / "data.yaml"), "train"]], "TRAIN": ["mine"], "TEST": ["mine"]}
    near = {"short": 0.6}.get(choices["lines"], 0.01) if not keypoints else 0.01
    listed = layout in ("a list", "a list of whole paths", "CVAT")
    about = {"crowds": False, "unnamed": "" if listed else images, "sized": False}
    return Handed({"DATASETS": data}, world.names, tuple(reference), near, level, **about)


def _written(scene: Scene) -> list[Thing]:
    return [thing for thing in scene.things if not thing.crowd]


def _line(scene: Scene, thing: Thing, number: int, world: World, kind: str) -> str:
    height, width = scene.size
    x0, y0, x1, y1 = thing.box
    numbers = [(x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height]
    form = {"many digits": "{:.12f}", "short": "{:.2f}", "exponents": "{:.6e}"}.get(kind, "{:.6f}")
    if kind == "polygons" or (kind == "both" and number % 2):
        # Once around the hull of the box, from the middle of a side on.
        around = [((x0 + x1) / 2, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)]
        numbers = [value for x, y in around for value in (x / width, y / height)]
    words = [form.format(value) for value in numbers]
    if kind == "keypoints":
        words += [form.format(value) for value in (x0 / width, y0 / height, 0.5, 0.5)]
    if kind == "keypoints, seen or not":
        words += [form.format(x0 / width), form.format(y0 / height), "1", "0.000000", "0.000000", "0"]
    if kind == "a confidence":
        words.append("0.9")
    klass = world.names.index(thing.name)
    return ("\t" if kind == "tabs" else " ").join([f"{klass}.0" if kind == "with a point" else str(klass), *words])


def _text(lines: list[str], kind: str) -> bytes:
    end = {"CRLF": "\r\n", "blank lines": "\n\n"}.get(kind, "\n")
    text = end.join(lines) + ("" if kind == "no end of line" or not lines else end)
    return text.encode("utf-8-sig" if kind == "byte order mark" else "utf-8")


def _describe(world: World, folder: Path, images: str, files: list[Path], choices: Choices) -> None:
    layout = choices["layout"]
    content: dict[str, Any] = {"path": ".", "train": images, "val": images}
    if layout == "a list":
        _list(folder / "train.txt", [f"./{file.relative_to(folder)}" for file in files])
        content |= {"train": "train.txt", "val": "train.txt"}
    elif layout == "CVAT":  # data/images/train/NAME in train.txt, from the folder of data.yaml on
        _list(folder / "train.txt", [str(file.relative_to(folder)) for file in files])
        content |= {"train": "train.txt", "val": "train.txt", "path": "./"}
    elif layout == "a list of whole paths":
        _list(folder / "lists" / "train.txt", [str(file) for file in files])
        content |= {"train": "lists/train.txt", "val": "lists/train.txt"}
    elif layout == "several folders":
        content["train"] = [f"{images}/{n}" for n in range(min(2, len(files)))]
    elif layout == "no path":
        del content["path"]
    elif layout == "whole path":
        content["path"] = str(folder)
    elif layout == "Roboflow":
        del content["path"]
        content |= {"train": "../train/images", "val": "../valid/images", "test": "../test/images"}
    names: Any = list(world.names)
    if choices["names"].startswith("by number"):
        names = dict(enumerate(world.names))
        if choices["names"].endswith("shuffled"):
            names = dict(reversed(names.items()))
    content["names"] = names
    if choices["about"] in ("nc", "all"):
        content["nc"] = len(world.names)
    if choices["about"] == "nc is wrong":
        content["nc"] = len(world.names) + 1
    if choices["about"] == "all":
        content |= {"download": None, "roboflow": {"workspace": "w", "version": 1}, "task": "detect", "channels": 3}
    if choices["lines"].startswith("keypoints"):
        content["kpt_shape"] = [2, 3 if "seen" in choices["lines"] else 2]
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    if choices["names"] == "unquoted":
        text = text.replace(yaml.safe_dump({"names": names}, allow_unicode=True), _unquoted(world.names))
    (folder / "data.yaml").write_text(text, encoding="utf-8")


def _unquoted(names: tuple[str, ...]) -> str:
    """As a user writes them where YAML lets him."""
    safe = all(
        set(name) <= set("abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.ßáç") for name in names
    )
    return "names:\n" + "".join(f"- {name}\n" for name in names) if safe else yaml.safe_dump({"names": list(names)})


def _list(file: Path, lines: list[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


CHOICES = {
    "layout": LAYOUTS,
    "names": NAMES,
    "lines": LINES,
    "without": WITHOUT,
    "about": MORE,
    "image": ("jpg", "png", "jpg, gray", "JPG in capitals", "png, palette", "tif", "bmp", "webp, lossless"),
    "stem": tuple(STEMS),
    "junk": ("none", "macOS", "Windows", "notes", "Jupyter", "a hidden folder"),
}
MAY = frozenset(
    {
        ("about", "nc is wrong"),
        ("lines", "a confidence"),
        ("lines", "keypoints"),
        ("lines", "keypoints, seen or not"),
        ("lines", "byte order mark"),
        ("junk", "macOS"),
        ("names", "unquoted"),
    }
)
FORMS = (Form("YOLO, by hand", by_hand, CHOICES, MAY),)
