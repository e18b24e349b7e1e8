"""Data by datumaro, with which CVAT exports, too: COCO, YOLO, Pascal VOC with boxes or masks, CamVid."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from datumaro.components.annotation import (
    AnnotationType,
    Bbox,
    LabelCategories,
    Mask,
    MaskCategories,
    Polygon,
)
from datumaro.components.dataset import Dataset
from datumaro.components.dataset_base import DatasetItem
from datumaro.components.media import Image

from referee.scenes import World
from referee.situations import Choices, Form, Handed
from referee.writers import numbering
from referee.writers.mask_folders import STEMS
from referee.writers.pictures import shown


def _boxes(world: World, choices: Choices, crowds: bool) -> Dataset:
    items = []
    for number, scene in enumerate(world.scenes):
        annotations: list[Any] = []
        for place, thing in enumerate(scene.things, 1):
            if thing.crowd and not crowds:
                continue
            about = {"label": world.names.index(thing.name), "id": 10 * number + place, "group": 10 * number + place}
            x0, y0, x1, y1 = thing.box
            about["attributes"] = {"is_crowd": thing.crowd}
            if thing.crowd and choices["shapes"] == "polygons":
                annotations.append(Mask(thing.mask(*scene.size), **about))
            elif choices["shapes"] == "polygons":
                annotations += [
                    Polygon([px0, py0, px1, py0, px1, py1, px0, py1], **about) for px0, py0, px1, py1 in thing.parts
                ]
            else:
                annotations.append(Bbox(x0, y0, x1 - x0, y1 - y0, **about))
        items.append(_item(number, scene.image, choices, annotations))
    return Dataset.from_iterable(items, categories=list(world.names))


def _item(number: int, image: np.ndarray, choices: Choices, annotations: list[Any]) -> DatasetItem:
    # datumaro has OpenCV's order of channels.
    media = Image.from_numpy(np.ascontiguousarray(image[..., ::-1]))
    split = choices.get("split", "train")
    return DatasetItem(id=STEMS[choices["stem"]](number), subset=split, media=media, annotations=annotations)


def _export(dataset: Dataset, folder: Path, form: str, choices: Choices, **options: Any) -> None:
    suffix = f".{choices['image']}"
    dataset.export(str(folder), form, save_media=True, image_ext=suffix, **options)


def _reference(folder: Path, world: World, choices: Choices) -> tuple[tuple[np.ndarray, ...], int]:
    if choices["image"] == "png":
        return tuple(scene.image for scene in world.scenes), 0
    files = [folder / f"{STEMS[choices['stem']](number)}.{choices['image']}" for number in range(len(world.scenes))]
    return tuple(map(shown, files)), 4


def coco(world: World, folder: Path, choices: Choices) -> Handed:
    # A box is no crowd to datumaro, whatever its attribute says.
    crowds = choices["shapes"] == "polygons"
    _export(_boxes(world, choices, crowds), folder, "coco_instances", choices)
    images = folder / "images" / choices["split"]
    reference, level = _reference(images, world, choices)
    entry = ["mine", str(folder / "annotations" / f"instances_{choices['split']}.json"), str(images)]
    config: dict[str, Any] = {"DATASETS": {"COCO_FORMAT": [entry], "TRAIN": ["mine"], "TEST": ["mine"]}}
    return Handed(config, world.names, reference, level=level, crowds=crowds, masks=crowds)


def yolo(world: World, folder: Path, choices: Choices) -> Handed:
    dataset = _boxes(world, {**choices, "shapes": "boxes"}, crowds=False)
    # Ultralytics' form has both splits.
    other = DatasetItem(id="other", subset="val", media=Image.from_numpy(np.zeros((8, 8, 3), np.uint8)), annotations=[])
    dataset.put(other)
    _export(dataset, folder, "yolo_ultralytics", choices)
    reference, level = _reference(folder / "images" / "train", world, choices)
    data = {"YOLO_FORMAT": [["mine", str(folder / "data.yaml"), "train"]], "TRAIN": ["mine"], "TEST": ["mine"]}
    return Handed({"DATASETS": data}, world.names, reference, 0.01, level, crowds=False, unread=("other",), sized=False)


def voc(world: World, folder: Path, choices: Choices) -> Handed:
    _export(
        _boxes(world, {**choices, "shapes": "boxes"}, crowds=False),
        folder,
        "voc_detection",
        choices,
        coordinate_mode=choices["pixels"],
    )
    reference, level = _reference(folder / "JPEGImages", world, choices)
    data = {"VOC_FORMAT": [["mine", str(folder), choices["split"]]], "TRAIN": ["mine"], "TEST": ["mine"]}
    there = {thing.name for scene in world.scenes for thing in scene.things if not thing.crowd}
    # By default its pixels are counted from 0, and VOC's from 1.
    return Handed({"DATASETS": data}, tuple(sorted(there)), reference, 1.01, level, crowds=False)


def _masks(world: World, choices: Choices) -> Dataset:
    names = ["background", *world.names]
    colors = numbering.colors(world, "from 1")
    categories = {
        AnnotationType.label: LabelCategories.from_iterable(names),
        AnnotationType.mask: MaskCategories({n: tuple(map(int, colors[n])) for n in range(len(names))}),
    }
    items = []
    for number, (scene, ids) in enumerate(zip(world.scenes, numbering.label_ids(world, "from 1"), strict=True)):
        found = [Mask(ids == n, label=n, id=n, group=n) for n in range(1, len(names)) if (ids == n).any()]
        items.append(_item(number, scene.image, choices, found))
    return Dataset.from_iterable(items, categories=categories)


def _of_masks(form: str, entry: Callable[[Path, Choices], tuple[dict[str, Any], Path]]) -> Callable[..., Handed]:
    def write(world: World, folder: Path, choices: Choices) -> Handed:
        _export(_masks(world, choices), folder, form, choices, apply_colormap=choices["masks"] == "colors")
        data, images = entry(folder, choices)
        reference, level = _reference(images, world, choices)
        section = {**data, **numbering.classes(world, "from 1"), "TRAIN": ["mine"], "TEST": ["mine"], "ROOT": ""}
        unnamed = "" if "VOC_FORMAT" in data else str(images.relative_to(folder))
        # SegmentationObject has objects, which nobody asks for.
        return Handed({"DATASETS": section}, world.names, reference, level=level, unnamed=unnamed)

    return write


def _voc_entry(folder: Path, choices: Choices) -> tuple[dict[str, Any], Path]:
    for file in (folder / "SegmentationObject").rglob("*.png"):
        file.unlink()
    return {"VOC_FORMAT": [["mine", str(folder), choices["split"]]]}, folder / "JPEGImages"


def _camvid_entry(folder: Path, choices: Choices) -> tuple[dict[str, Any], Path]:
    images = folder / choices["split"]
    return {"FOLDERS": [["mine", str(images), str(folder / f"{choices['split']}annot")]]}, images


_COMMON = {"image": ("png", "jpg", "bmp"), "split": ("train", "val", "default"), "stem": tuple(STEMS)}
_STEM = frozenset({("stem", "ends in a suffix"), ("stem", "blanks")})
_NEGATIVES = frozenset({("empty", "first"), ("empty", "last")})  # datumaro writes no XML for them
DET_FORMS = (
    Form("COCO, by datumaro", coco, {"shapes": ("boxes", "polygons"), **_COMMON}, _STEM),
    Form("YOLO, by datumaro", yolo, {"image": ("png", "jpg", "bmp"), "stem": tuple(STEMS)}, _STEM),
    Form(
        "VOC, by datumaro",
        voc,
        {"pixels": ("dm-zero-based", "voc-one-based"), **_COMMON},
        _STEM | _NEGATIVES,
    ),
)
SEG_FORMS = (
    Form(
        "VOC masks, by datumaro",
        _of_masks("voc_segmentation", _voc_entry),
        {"masks": ("colors", "numbers"), **_COMMON},
        _STEM,
    ),
    Form("CamVid, by datumaro", _of_masks("camvid", _camvid_entry), {"masks": ("colors", "numbers"), **_COMMON}, _STEM),
)
