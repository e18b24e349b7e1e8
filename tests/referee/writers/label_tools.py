"""Masks of annotation tools: labelme's converter to VOC, and cityscapesscripts, which fills polygons."""

import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from cityscapesscripts.preparation.json2labelImg import json2labelImg
from PIL import Image

from referee.scenes import IGNORED, World
from referee.situations import Choices, Form, Handed
from referee.writers import numbering, pictures
from referee.writers.mask_folders import STEMS

CITYSCAPES = {"road": 7, "car": 26, "vegetation": 21, "sky": 23}  # labels of cityscapesscripts, with their ids


def labelme(world: World, folder: Path, choices: Choices) -> Handed:
    """labelme2voc.py: class 0 is _background_, 255 what is marked to be ignored; a palette as imgviz has it."""
    reference, level = [], 0
    for number, (scene, ids) in enumerate(zip(world.scenes, numbering.label_ids(world, "from 1"), strict=True)):
        stem = STEMS[choices["stem"]](number)
        _, pixels, off = pictures.write(folder / "JPEGImages", stem, scene.image, "Pillow", choices["image"])
        reference.append(pixels)
        level = max(level, off)
        kept = ids if choices["ignored"] == "_background_" else np.where(ids == 0, 255, ids).astype(np.uint8)
        mask = Image.fromarray(kept, "P")
        mask.putpalette(_colormap().tobytes())
        (folder / "SegmentationClass" / f"{stem}.png").parent.mkdir(parents=True, exist_ok=True)
        mask.save(folder / "SegmentationClass" / f"{stem}.png")
    (folder / "class_names.txt").write_text("\n".join(["_background_", *world.names]), encoding="utf-8")
    entries = numbering.classes(world, "from 1")["CLASSES"]
    if choices["colors"] == "of the palette":
        entries = [{**entry, "color": _colormap()[entry["ids"][0]].tolist()} for entry in entries]
    section: dict[str, Any] = {
        "FOLDERS": [["mine", str(folder / "JPEGImages"), str(folder / "SegmentationClass")]],
        "CLASSES": entries,
        "IGNORED_IDS": [0, 255],
        "TRAIN": ["mine"],
        "TEST": ["mine"],
        "ROOT": "",
    }
    return Handed(
        {"DATASETS": section},
        world.names,
        tuple(reference),
        level=level,
        unnamed="JPEGImages",
    )


def _colormap() -> np.ndarray:
    """VOC's colors, (256, 3), uint8: the bits of a number, spread over the channels."""
    numbers, colors = np.arange(256), np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colors[:, channel] |= (((numbers >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return colors


def cityscapes(world: World, folder: Path, choices: Choices) -> Handed:
    """Polygons, of which cityscapesscripts makes labelIds."""
    names = list(CITYSCAPES)[: len(world.names)]
    reference = []
    for number, scene in enumerate(world.scenes):
        height, width = scene.size
        town = f"town{number % 2}"
        stem = f"{town}_{number:06}_000019"
        at = folder / "leftImg8bit" / "train" / town
        reference.append(pictures.write(at, f"{stem}_leftImg8bit", scene.image, "OpenCV", choices["image"])[1])
        objects = [{"label": names[0], "polygon": _around(0, 0, width, height)}]
        objects += [
            {"label": names[world.names.index(thing.name)], "polygon": _around(*part)}
            for thing in scene.things
            for part in thing.parts
        ]
        if scene.things:
            ignored = bool((scene.labels == IGNORED).any())
            corner = _around(0, 0, max(width // 3, 1), height // 8 + 1)
            objects.append({"label": "unlabeled" if ignored else names[0], "polygon": corner})
        beside = folder / "gtFine" / "train" / town
        beside.mkdir(parents=True, exist_ok=True)
        polygons = beside / f"{stem}_gtFine_polygons.json"
        polygons.write_text(json.dumps({"imgHeight": height, "imgWidth": width, "objects": objects}))
        with redirect_stdout(StringIO()):
            json2labelImg(str(polygons), str(beside / f"{stem}_gtFine_labelIds.png"), "ids")
    entries = [
        {"name": name, "ids": [CITYSCAPES[label]], "color": list(color)}
        for name, label, color in zip(world.names, names, numbering.COLORS, strict=False)
    ]
    section = {"ROOT": str(folder), "CLASSES": entries, "IGNORED_IDS": [0], "TRAIN": ["train"], "TEST": ["train"]}
    return Handed({"DATASETS": section}, world.names, tuple(reference), unnamed="leftImg8bit")


def _around(x0: int, y0: int, x1: int, y1: int) -> list[list[int]]:
    """The corner pixels of a rectangle, which Pillow fills with its border."""
    return [[x0, y0], [x1 - 1, y0], [x1 - 1, y1 - 1], [x0, y1 - 1]]


FORMS = (
    Form(
        "folders, by labelme's converter",
        labelme,
        {
            "image": ("jpg", "png"),
            "ignored": ("_background_", "255"),
            "colors": ("of the palette", "others"),
            "stem": tuple(STEMS),
        },
    ),
    Form("Cityscapes, by cityscapesscripts", cityscapes, {"image": ("png", "jpg")}),
)
