"""Scenes with known truth, drawn by NumPy: no two of a world look alike."""

from dataclasses import dataclass, replace

import numpy as np

IGNORED = 255  # of a label map: pixels that do not count
Corners = tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels; the latter two are beyond the last pixel


@dataclass(frozen=True)
class Thing:
    """An object: rectangles that do not overlap, so that polygons, run lengths and pixels say the same of it.

    Args:
        name: its class.
        parts: rectangles, all within the image.
        crowd: a region that counts neither way.
    """

    name: str
    parts: tuple[Corners, ...]
    crowd: bool = False

    @property
    def box(self) -> Corners:
        x0, y0, x1, y1 = np.array(self.parts).T
        return int(x0.min()), int(y0.min()), int(x1.max()), int(y1.max())

    def mask(self, height: int, width: int) -> np.ndarray:
        mask = np.zeros((height, width), bool)
        for x0, y0, x1, y1 in self.parts:
            mask[y0:y1, x0:x1] = True
        return mask


@dataclass(frozen=True)
class Scene:
    """
    Args:
        image: (H, W, 3), uint8, RGB.
        things: the objects.
        labels: (H, W), uint8: the place of the pixel's class in World.names, or IGNORED.
    """

    image: np.ndarray
    things: tuple[Thing, ...]
    labels: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.image.shape[0], self.image.shape[1]


@dataclass(frozen=True)
class World:
    """
    Args:
        names: of the classes, in the order that the user means.
        scenes: the images.
    """

    names: tuple[str, ...]
    scenes: tuple[Scene, ...]


NAMES = {
    "plain": ("road", "car", "tree", "sky"),
    "blanks": ("traffic light", "stop sign", "dining table", "hot dog"),
    "numbers": ("7", "12", "0", "3.5"),
    "other letters": ("Straße", "汽车", "árbol", "ciel"),
    "signs": ("a,b", "c/d", "e: f", "#g"),
    "truth values": ("yes", "no", "null", "on"),
    "left and right": ("left eye", "right eye", "nose", "mouth"),
    "cases": ("Car", "car", "CAR", "cAr"),
}


def draw(
    seed: int,
    images: int = 2,
    names: str = "plain",
    classes: int = 3,
    empty: str = "none",
    crowds: bool = False,
    ignored: bool = True,
    sizes: str = "mixed",
) -> World:
    """A world that the arguments alone decide.

    Args:
        images: how many.
        names: a key of NAMES.
        classes: 2 to 4.
        empty: "none", "first", "last": the image without an object; its label map has the first class alone.
        crowds: whether the last thing of an image with several is a crowd.
        ignored: whether some pixels do not count.
        sizes: "mixed", "equal", "wide" or "tall".
    """
    rng = np.random.default_rng(seed)
    words = NAMES[names][:classes]
    without = {"first": 0, "last": images - 1}.get(empty, -1)
    scenes = []
    for number in range(images):
        size = {"equal": (32, 40), "wide": (17, 48), "tall": (48, 17)}.get(sizes)
        height, width = size or (int(rng.integers(16, 48)), int(rng.integers(16, 48)))
        scene = _scene(rng, number, height, width, words, 0 if number == without and images > 1 else 1 + number % 3)
        if not ignored:
            labels = np.where(scene.labels == IGNORED, 0, scene.labels)
            scene = replace(scene, labels=labels.astype(np.uint8))
        if crowds and len(scene.things) > 1:
            scene = replace(scene, things=(*scene.things[:-1], replace(scene.things[-1], crowd=True)))
        scenes.append(scene)
    return World(words, tuple(scenes))


def _scene(
    rng: np.random.Generator, number: int, height: int, width: int, names: tuple[str, ...], things: int
) -> Scene:
    image = rng.integers(0, 256, (height, width, 3)).astype(np.uint8) // 4
    image += np.array([[0, 60, 120], [120, 0, 60], [60, 120, 0], [150, 150, 0]], np.uint8)[number % 4]
    labels = np.zeros((height, width), np.uint8)
    found = []
    columns = np.linspace(0, width, things + 1).astype(int)
    for place in range(things):
        left, right = int(columns[place]), int(columns[place + 1])
        x0 = int(rng.integers(left, max(left + (right - left) // 3, left + 1)))
        x1 = int(rng.integers(x0 + max((right - x0) // 2, 2), right + 1)) if right - x0 > 2 else right
        y0 = int(rng.integers(0, height // 3))
        y1 = int(rng.integers(y0 + height // 2, height + 1))
        kind = (number + place) % len(names)
        parts = ((x0, y0, x1, y1),)
        middle = (y0 + y1) // 2
        if x1 - x0 >= 4:
            half = (x0 + x1) // 2
            parts = (
                parts,
                ((x0, y0, x1, middle), (x0, middle, half, y1)),  # an L
                ((x0, y0, half, middle - 1), (half, middle + 1, x1, y1)),  # in two pieces
            )[int(rng.integers(3))]
        thing = Thing(names[kind], parts)
        mask = thing.mask(height, width)
        labels[mask] = kind
        image[mask] = (image[mask] // 2 + 127 - 30 * kind).astype(np.uint8)
        found.append(thing)
    if things:
        labels[: height // 8 + 1, : width // 3] = IGNORED
    return Scene(image, tuple(found), labels)
