"""Digits in clutter: small scenes with real handwritten digits, made on first use.

handwritten_digits.npz holds 1797 handwritten digits of 8x8 pixels: the test set of "Optical Recognition of Handwritten
Digits" (E. Alpaydin, C. Kaynak, UCI Machine Learning Repository, 1998, doi.org/10.24432/C50P49, CC BY 4.0), as
scikit-learn has it. Scaled, turned and colored they are pasted on textured, noisy backgrounds among distractor strokes.
No two splits share a digit. The scenes are a pure function of SEED and of this file's VERSION.

The data set folder is a Cityscapes tree: images leftImg8bit/{split}/digits/digits_000000_{index:06}_leftImg8bit.png
(128x128, color) and for each a label image gtFine/…_gtFine_labelIds.png, 0 for background and d + 1 for digit d.
Beside them lies {split}.json in COCO format: boxes, and the visible part of each digit as a run-length encoded mask.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco_mask

HANDWRITTEN = Path(__file__).with_name("handwritten_digits.npz")
VERSION = 3
SEED = 0
CITY = "digits"  # Cityscapes has a folder for each city
SIZE = 128  # pixels, both sides of a scene
CLASSES = tuple("0123456789")
SCENES = {"train": 1000, "val": 200, "test": 300}
DIGITS = {"train": (0, 1200), "val": (1200, 1450), "test": (1450, 1797)}  # of the shuffled 1797
# Random stream of each split. Stream 2 drew the test scenes of VERSION 1: the number of labels was changed after a
# look at results on them, so they are no longer used.
STREAMS = {"train": 0, "val": 1, "test": 3}
# The annotated part of the training scenes where labels are scarce.
FEW = 60
SPLITS = (*SCENES, f"train_{FEW}")


def root() -> Path:
    """Return the data set folder; it exists once ensure() has returned."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "dense-dist" / f"digits-v{VERSION}"


def images(split: str) -> Path:
    """Return the folder of a split's images; it exists once ensure() has returned."""
    return root() / "leftImg8bit" / split.removesuffix(f"_{FEW}") / CITY


def annotations(split: str) -> Path:
    """Return a split's COCO JSON file; it exists once ensure() has returned."""
    return root() / f"{split}.json"


def ensure() -> Path:
    """Make the data set unless it is there; its folder. Safe when several processes call it at once."""
    final = root()
    if final.is_dir():
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=f"{final.name}-", dir=final.parent))
    try:
        _make(making)
        try:
            making.rename(final)
        except OSError:
            if not final.is_dir():  # otherwise another process was faster, with the same scenes
                raise
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return final


def _make(folder: Path) -> None:
    with np.load(HANDWRITTEN) as data:
        ink, classes = data["images"] / 16, data["classes"]  # counts of dark pixels, up to 16
    order = np.random.default_rng(SEED).permutation(len(classes))
    for split, scenes in SCENES.items():
        images, labels = (folder / kind / split / CITY for kind in ("leftImg8bit", "gtFine"))
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        source = order[slice(*DIGITS[split])]
        coco: dict = {"info": {"description": __doc__.splitlines()[0]}, "licenses": []}
        coco |= {"images": [], "annotations": []}
        coco["categories"] = [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)]
        for index in range(scenes):
            rng = np.random.default_rng([SEED, STREAMS[split], index])
            scene, instances = draw_scene(rng, ink[source], classes[source])
            stem = f"{CITY}_000000_{index:06}"
            name = f"{stem}_leftImg8bit.png"
            cv2.imwrite(str(images / name), scene)
            cv2.imwrite(str(labels / f"{stem}_gtFine_labelIds.png"), _label_ids(instances))
            coco["images"].append({"id": index + 1, "file_name": name, "height": SIZE, "width": SIZE})
            for digit, mask in instances:
                number_so_far = len(coco["annotations"])
                coco["annotations"].append(_annotation(number_so_far + 1, index + 1, digit + 1, mask))
        (folder / f"{split}.json").write_text(json.dumps(coco))
    _write_few(folder)


def _write_few(folder: Path) -> None:
    coco = json.loads((folder / "train.json").read_text())
    coco["images"] = coco["images"][:FEW]
    kept = {image["id"] for image in coco["images"]}
    coco["annotations"] = [a for a in coco["annotations"] if a["image_id"] in kept]
    (folder / f"train_{FEW}.json").write_text(json.dumps(coco))


def _label_ids(instances: list[tuple[int, np.ndarray]]) -> np.ndarray:
    labels = np.zeros((SIZE, SIZE), np.uint8)
    for digit, mask in instances:
        labels[mask] = digit + 1
    return labels


def _annotation(number: int, image: int, category: int, mask: np.ndarray) -> dict:
    code = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    box = [float(value) for value in coco_mask.toBbox(code)]
    segmentation = {"size": list(code["size"]), "counts": code["counts"].decode()}
    shape = {"bbox": box, "area": float(mask.sum()), "segmentation": segmentation}
    return {"id": number, "image_id": image, "category_id": category, "iscrowd": 0, **shape}


def draw_scene(
    rng: np.random.Generator, digits: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, list[tuple[int, np.ndarray]]]:
    """Draw a scene of 2 to 5 digits.

    Args:
        digits: (D, 8, 8) ink in [0, 1]; labels: (D,) their classes in 0..9.

    Returns:
        image (SIZE, SIZE, 3) uint8, and for each digit its class and visible mask (SIZE, SIZE) bool.
    """
    scene = _background(rng)
    _strokes(rng, scene, count=int(rng.integers(4, 10)))
    instances: list[tuple[int, np.ndarray]] = []
    taken = np.zeros((SIZE, SIZE), bool)
    for index in rng.choice(len(digits), size=rng.integers(2, 6), replace=False):
        free = (place for place in _placements(rng, digits[index]) if taken[place[1]].mean() < 0.1)
        ink, window = next(free, (None, None))
        if ink is None:
            continue
        patch = scene[window]
        patch += ink[..., None] * (_contrast(rng, patch.mean((0, 1))) - patch)
        shape = np.zeros((SIZE, SIZE), bool)
        shape[window] = ink > 0.4
        instances = [(label, mask & ~shape) for label, mask in instances]
        instances.append((int(labels[index]), shape))
        taken[window] = True
    _strokes(rng, scene, count=int(rng.integers(0, 3)))
    scene += rng.normal(0, rng.uniform(0.02, 0.08), scene.shape)
    return (scene.clip(0, 1) * 255).round().astype(np.uint8), [i for i in instances if i[1].sum() >= 20]


def _background(rng: np.random.Generator) -> np.ndarray:
    scene = np.full((SIZE, SIZE, 3), rng.uniform(0.2, 0.8, 3))
    for cells in (2, 5, 16):
        coarse = rng.normal(0, 0.08, (cells, cells, 3))
        scene += cv2.resize(coarse, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    return scene


def _strokes(rng: np.random.Generator, scene: np.ndarray, count: int) -> None:
    for _ in range(count):
        start = rng.uniform(0, SIZE, 2)
        steps = rng.normal(0, 12, (int(rng.integers(2, 6)), 2)).cumsum(0)
        points = (start + steps).round().astype(np.int32)
        color = [float(value) for value in rng.uniform(0, 1, 3)]
        cv2.polylines(scene, [points], False, color, thickness=int(rng.integers(1, 4)), lineType=cv2.LINE_AA)


def _placements(rng: np.random.Generator, digit: np.ndarray, tries: int = 20) -> Iterator[tuple]:
    """Yield random sizes, rotations and positions of a digit: its ink (h, w) and where that goes."""
    for _ in range(tries):
        side = int(rng.integers(20, 53))
        turn = cv2.getRotationMatrix2D((side / 2, side / 2), float(rng.uniform(-15, 15)), 1.0)
        ink = cv2.resize(digit, (side, side), interpolation=cv2.INTER_CUBIC)
        ink = cv2.warpAffine(ink, turn, (side, side)).clip(0, 1)
        rows, columns = np.flatnonzero((ink > 0.4).any(1)), np.flatnonzero((ink > 0.4).any(0))
        ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        height, width = ink.shape
        y, x = int(rng.integers(0, SIZE - height + 1)), int(rng.integers(0, SIZE - width + 1))
        yield ink, (slice(y, y + height), slice(x, x + width))


def _contrast(rng: np.random.Generator, background: np.ndarray) -> np.ndarray:
    """Draw a random color whose brightness differs from the background's by at least 0.3."""
    while True:
        color = rng.uniform(0, 1, 3)
        if abs(color.mean() - background.mean()) > 0.3:
            return color
