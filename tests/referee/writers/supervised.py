"""Detection data by supervision: COCO, YOLO and Pascal VOC."""

from pathlib import Path
from typing import Any

import numpy as np
import supervision as sv

from referee.scenes import Thing, World
from referee.situations import Choices, Form, Handed
from referee.writers import pictures
from referee.writers.mask_folders import write_list


def _dataset(world: World, folder: Path, choices: Choices) -> tuple[sv.DetectionDataset, list[np.ndarray], int]:
    """supervision's data set; with masks or without, images as they lie in a folder."""
    annotations, reference, level = {}, [], 0
    for number, scene in enumerate(world.scenes):
        file, pixels, off = pictures.write(folder / "given", f"{number:03}", scene.image, "Pillow", choices["image"])
        reference.append(pixels)
        level = max(level, off)
        things = [thing for thing in scene.things if not thing.crowd]
        # Of whole boxes: an object in several pieces is a crowd to supervision.
        whole = [Thing(thing.name, (thing.box,)) for thing in things]
        masks = np.array([thing.mask(*scene.size) for thing in whole], bool).reshape(-1, *scene.size)
        annotations[str(file)] = sv.Detections(
            xyxy=np.array([thing.box for thing in things], float).reshape(-1, 4),
            class_id=np.array([world.names.index(thing.name) for thing in things], int),
            mask=masks if choices["masks"] == "with" and things else None,
        )
    return sv.DetectionDataset(list(world.names), list(annotations), annotations), reference, level


def coco(world: World, folder: Path, choices: Choices) -> Handed:
    found, reference, level = _dataset(world, folder, choices)
    found.as_coco(str(folder / "images"), str(folder / "annotations.json"))
    config: dict[str, Any] = {
        "COCO_FORMAT": [["mine", str(folder / "annotations.json"), str(folder / "images")]],
        "TRAIN": ["mine"],
        "TEST": ["mine"],
    }
    return Handed({"DATASETS": config}, world.names, tuple(reference), level=level, crowds=False, unread=_GIVEN)


def yolo(world: World, folder: Path, choices: Choices) -> Handed:
    found, reference, level = _dataset(world, folder, choices)
    found.as_yolo(str(folder / "images"), str(folder / "labels"), str(folder / "data.yaml"))
    # supervision names no folders, as it does not know the split.
    text = (folder / "data.yaml").read_text()
    (folder / "data.yaml").write_text(f"{text}train: images\nval: images\n")
    data = {"YOLO_FORMAT": [["mine", str(folder / "data.yaml"), "train"]], "TRAIN": ["mine"], "TEST": ["mine"]}
    # Of masks it writes their outlines through the centers of pixels.
    near = 1.5 if choices["masks"] == "with" else 0.01
    about = {"crowds": False, "unnamed": "images", "unread": _GIVEN, "sized": False}
    return Handed({"DATASETS": data}, world.names, tuple(reference), near, level, **about)


def voc(world: World, folder: Path, choices: Choices) -> Handed:
    found, reference, level = _dataset(world, folder, choices)
    found.as_pascal_voc(str(folder / "JPEGImages"), str(folder / "Annotations"))
    names = [f"{number:03}" for number in range(len(world.scenes))]
    write_list(folder / "ImageSets" / "Main" / "train.txt", names, "names")
    there = {thing.name for scene in world.scenes for thing in scene.things if not thing.crowd}
    data = {"VOC_FORMAT": [["mine", str(folder), "train"]], "TRAIN": ["mine"], "TEST": ["mine"]}
    # It counts pixels from 1, and does not take the last one into the box, as VOC does: one pixel more.
    return Handed(
        {"DATASETS": data}, tuple(sorted(there)), tuple(reference), 1.01, level, False, unread=_GIVEN, sized=False
    )


_GIVEN = ("given",)  # the folder that supervision reads images from
CHOICES = {"masks": ("without", "with"), "image": ("png", "jpg", "bmp")}
FORMS = (
    Form("COCO, by supervision", coco, CHOICES),
    Form("YOLO, by supervision", yolo, CHOICES),
    Form("VOC, by supervision", voc, {"masks": ("without",), "image": ("png", "jpg", "bmp")}),
)
