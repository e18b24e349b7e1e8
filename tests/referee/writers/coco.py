"""COCO's JSON as it is written by hand, by pycocotools' run lengths, by CVAT and by labelme's converter."""

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from referee.scenes import Scene, Thing, World
from referee.situations import Choices, Form, Handed
from referee.writers import pictures
from referee.writers.mask_folders import STEMS, add_junk

IMAGE_IDS: Mapping[str, Any] = {
    "from 1": lambda n: n + 1,
    "from 0": lambda n: n,
    "large": lambda n: 10**12 + 7 * n,
    "larger than 2 ** 63": lambda n: 2**64 + n,
    "with a point": lambda n: float(n + 1),
    "with fractions": lambda n: n + 0.5,
    "text": lambda n: f"img-{n}",
    "numbers as text": lambda n: str(9 + n),
    "counted down": lambda n: 50 - n,
    "negative": lambda n: n - 2,
}
CATEGORY_IDS: Mapping[str, Any] = {
    "from 1": lambda n: n + 1,
    "from 0": lambda n: n,
    "gaps": lambda n: (1, 17, 44, 90)[n],
    "counted down": lambda n: 9 - n,
    "numbers as text": lambda n: str(8 + n),
    "text": lambda n: "dbca"[n],
    "with a point": lambda n: float(n + 1),
    "negative": lambda n: n - 1,
}
ANNOTATION_IDS: Mapping[str, Any] = {
    "from 1": lambda n: n + 1,
    "from 0": lambda n: n,
    "none": None,
    "large": lambda n: 900100000000 + n,
    "text": lambda n: f"a{n}",
    "with a point": lambda n: float(n),
    "twice": lambda n: n // 2 + 1,
    "null": lambda n: None,
}
CROWDS: Mapping[str, Any] = {
    "0 and 1": lambda crowd: int(crowd),
    "true and false": lambda crowd: bool(crowd),
    "only where it is 1": lambda crowd: 1 if crowd else None,
    "with a point": lambda crowd: float(crowd),
    "text": lambda crowd: str(int(crowd)),
}
AREAS = ("of the mask", "of the box", "missing", "0", "null", "text", "-1")
SHAPES = ("polygons", "run lengths", "run lengths, not compressed", "none", "empty", "of some")
BOXES = ("whole", "with a point", "a little beyond", "text", "null", "missing")
FILES = ("name", "with ./", "with the folder", "absolute", "backslashes", "in capitals")
EXTRAS = ("all", "nothing", "captions", "keypoints of some", "of a tool", "ignore", "score")
TEXTS = ("UTF-8", "escaped", "indented", "CRLF", "byte order mark", "UTF-16", "a line of a comment")
ORDERS = ("by image", "shuffled", "images from last to first", "categories from last to first")
PARTS = ("one file", "two files", "two files, two folders", "an image in two files", "an image twice")
MASKS = ("off", "polygon", "bitmask")


def by_hand(world: World, folder: Path, choices: Choices) -> Handed:
    """A JSON file, or two, and a folder of images."""
    images = folder / "images"
    files, reference, level = [], [], 0
    for number, scene in enumerate(world.scenes):
        file, pixels, off = pictures.write(
            images, STEMS[choices["stem"]](number), scene.image, "Pillow", choices["image"]
        )
        files.append(file)
        reference.append(pixels)
        level = max(level, off)
    add_junk(choices["junk"], [images])
    content = _content(world, folder, files, choices)
    entry = _write(content, folder, choices)
    names = [c["name"] for c in sorted(content["categories"], key=lambda c: _order(c["id"], content))]
    config: dict[str, Any] = {
        "DATASETS": {"COCO_FORMAT": [["mine", *entry]], "TRAIN": ["mine"], "TEST": ["mine"]},
    }
    if choices["masks"] != "off":
        config["INPUT"] = {"MASK_FORMAT": choices["masks"]}
    return Handed(config, tuple(names), tuple(reference), level=level, masks=choices["masks"] != "off")


def _order(identity: Any, content: dict[str, Any]) -> Any:
    """Detectron2's order: by the ids; of ids that are no numbers that of the file."""
    ids = [c["id"] for c in content["categories"]]
    return ids.index(identity) if isinstance(identity, str) else identity


def _content(world: World, folder: Path, files: list[Path], choices: Choices) -> dict[str, Any]:
    image_id, category_id = IMAGE_IDS[choices["image ids"]], CATEGORY_IDS[choices["category ids"]]
    content: dict[str, Any] = {"images": [], "annotations": [], "categories": []}
    extra = choices["more"]
    if extra == "all":
        content |= {"info": {"description": "", "year": 2026}, "licenses": [{"id": 0, "name": "", "url": ""}]}
    for number, (scene, file) in enumerate(zip(world.scenes, files, strict=True)):
        height, width = scene.size
        name = _file_name(file, folder, choices["file names"])
        size = {"height": float(height), "width": float(width)} if choices["sizes"] == "with a point" else None
        image = {"id": image_id(number), "file_name": name, **(size or {"height": height, "width": width})}
        if extra == "all":
            image |= {"license": 0, "flickr_url": "", "coco_url": "", "date_captured": 0}
        content["images"].append(image)
        for thing in scene.things:
            content["annotations"].append(
                _annotation(scene, thing, len(content["annotations"]), image["id"], world, choices)
            )
    content["categories"] = [
        {"id": category_id(number), "name": name} | ({"supercategory": ""} if extra == "all" else {})
        for number, name in enumerate(world.names)
    ]
    shuffle = random.Random(len(content["annotations"])).shuffle
    if choices["order"] == "shuffled":
        for kind in ("images", "annotations", "categories"):
            shuffle(content[kind])
    elif choices["order"] != "by image":
        content[choices["order"].split()[0]].reverse()
    return content


def _annotation(scene: Scene, thing: Thing, number: int, image: Any, world: World, choices: Choices) -> dict[str, Any]:
    x0, y0, x1, y1 = thing.box
    box: Any = [x0, y0, x1 - x0, y1 - y0]
    if choices["boxes"] == "with a point":
        box = list(map(float, box))
    elif choices["boxes"] == "text":
        box = list(map(str, box))
    elif choices["boxes"] == "a little beyond":
        box[2] += 0.3 * (x1 == scene.size[1])
        box[3] += 0.3 * (y1 == scene.size[0])
    elif choices["boxes"] == "null" and number == 0:
        box = None
    entry: dict[str, Any] = {"image_id": image, "bbox": box}
    entry["category_id"] = CATEGORY_IDS[choices["category ids"]](world.names.index(thing.name))
    if make := ANNOTATION_IDS[choices["annotation ids"]]:
        entry["id"] = make(number)
    crowd = CROWDS[choices["crowds"]](thing.crowd)
    if crowd is not None:
        entry["iscrowd"] = crowd
    mask = thing.mask(*scene.size)
    area = {
        "of the mask": int(mask.sum()),
        "of the box": float((x1 - x0) * (y1 - y0)),
        "0": 0,
        "null": None,
        "text": str(mask.sum()),
        "-1": -1,
    }
    if choices["areas"] in area:
        entry["area"] = area[choices["areas"]]
    shape = _segmentation(mask, thing, number, choices["shapes"])
    if shape is not None:
        entry["segmentation"] = shape
    if choices["boxes"] == "missing" and number == 0:
        del entry["bbox"]
    return entry | _more(choices["more"], number, thing)


def _more(extra: str, number: int, thing: Thing) -> dict[str, Any]:
    x0, y0, x1, y1 = thing.box
    return {
        "captions": {"caption": "a thing"},
        "keypoints of some": {"keypoints": [x0, y0, 2, x1, y1, 1], "num_keypoints": 2} if number % 2 else {},
        "of a tool": {"attributes": {"occluded": False, "rotation": 0.0}, "track_id": number},
        "ignore": {"ignore": 0},
        "score": {"score": 0.5},
    }.get(extra, {})


def _segmentation(mask: np.ndarray, thing: Thing, number: int, shape: str) -> Any:
    if thing.crowd and shape == "polygons":
        shape = "run lengths, not compressed"  # as COCO itself has them
    if shape == "none" or (shape == "of some" and number % 2):
        return None
    if shape == "empty":
        return []
    if shape in ("polygons", "of some"):
        return [[x0, y0, x1, y0, x1, y1, x0, y1] for x0, y0, x1, y1 in thing.parts]
    if shape == "run lengths":
        runs = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        return {"size": list(map(int, runs["size"])), "counts": runs["counts"].decode()}
    flat = np.concatenate([[False], mask.ravel(order="F")])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate([[0], edges, [mask.size]])).tolist()
    return {"size": list(mask.shape), "counts": counts}


def _file_name(file: Path, folder: Path, kind: str) -> str:
    name = str(file.relative_to(folder / "images"))
    return {
        "with ./": f"./{name}",
        "with the folder": f"images/{name}",
        "absolute": str(file),
        "backslashes": f"..\\images\\{name}",
        "in capitals": name.upper(),
    }.get(kind, name)


def _write(content: dict[str, Any], folder: Path, choices: Choices) -> list[Any]:
    """Write it; the file, or files, and the folder, or folders, of images."""
    root = folder if choices["file names"] == "with the folder" else folder / "images"
    parts, half = choices["files"], len(content["images"]) // 2
    if parts == "an image twice":
        _list_twice(content)
    if not parts.startswith(("two", "an image in")):
        _dump(folder / "train.json", content, choices["text"])
        return [str(folder / "train.json"), str(root)]
    pieces = [content["images"][:half], content["images"][half:]]
    if parts == "an image in two files":
        pieces = [content["images"], content["images"][-1:]]
    for number, images in enumerate(pieces):
        ids = [image["id"] for image in images]
        mine = [a for a in content["annotations"] if a["image_id"] in ids]
        if parts == "an image in two files":
            twice = [a for a in content["annotations"] if a["image_id"] == pieces[1][0]["id"]]
            mine = twice[::2] if number else [a for a in content["annotations"] if a not in twice[::2]]
        _dump(folder / f"{number}.json", {**content, "images": images, "annotations": mine}, choices["text"])
    both = [str(folder / "0.json"), str(folder / "1.json")]
    return [both, [str(root)] * 2 if parts == "two files, two folders" else str(root)]


def _list_twice(content: dict[str, Any]) -> None:
    """The last image has a second entry, and there every second of its objects."""
    last = content["images"][-1]
    own = [a for a in content["annotations"] if a["image_id"] == last["id"]]
    other = max((i["id"] for i in content["images"]), key=str)
    again = {**last, "id": f"{other}x" if isinstance(other, str) else other + 1000}
    content["images"].append(again)
    for annotation in own[::2]:
        annotation["image_id"] = again["id"]


def _dump(file: Path, content: dict[str, Any], kind: str) -> None:
    text = json.dumps(content, ensure_ascii=kind == "escaped", indent=2 if kind in ("indented", "CRLF") else None)
    if kind == "CRLF":
        text = text.replace("\n", "\r\n")
    if kind == "a line of a comment":
        text = f"// written by a tool\n{text}"
    encoding = {"byte order mark": "utf-8-sig", "UTF-16": "utf-16"}.get(kind, "utf-8")
    file.write_bytes(text.encode(encoding))


CHOICES = {
    "image ids": tuple(IMAGE_IDS),
    "category ids": tuple(CATEGORY_IDS),
    "annotation ids": tuple(ANNOTATION_IDS),
    "crowds": tuple(CROWDS),
    "areas": AREAS,
    "shapes": SHAPES,
    "boxes": BOXES,
    "sizes": ("whole", "with a point"),
    "file names": FILES,
    "more": EXTRAS,
    "text": TEXTS,
    "order": ORDERS,
    "files": PARTS,
    "masks": MASKS,
    "image": ("png", "jpg", "jpg, gray", "png, palette", "png, alpha", "tif", "bmp", "jpg, shown turned"),
    "stem": tuple(STEMS),
    "junk": ("none", "macOS", "Windows", "notes", "a hidden folder"),
}
MAY = frozenset(
    {
        ("annotation ids", "twice"),
        ("annotation ids", "null"),
        ("crowds", "text"),
        ("areas", "text"),
        ("boxes", "text"),
        ("boxes", "null"),
        ("boxes", "missing"),
        ("file names", "backslashes"),
        ("file names", "in capitals"),
        ("text", "UTF-16"),
        ("text", "a line of a comment"),
        ("files", "an image twice"),
        ("image ids", "with fractions"),
        ("more", "ignore"),
    }
)
FORMS = (Form("COCO, by hand", by_hand, CHOICES, MAY),)
