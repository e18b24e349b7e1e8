"""INPUT.COLOR_JITTER and INPUT.ALBUMENTATIONS: transforms of albumentations that a config names as plain data."""

import inspect
import random
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import albumentations as A
import cv2
import numpy as np
from detectron2.config import CfgNode
from pydantic import ValidationError

from densedist.common.distill.registry import is_on
from densedist.common.errors import UserError, one_line
from densedist.seg.labels import IGNORE

KEY = "INPUT.ALBUMENTATIONS"
WANTED = "{HorizontalFlip: {p: 0.5}}, a transform of albumentations with its arguments"
COMPOSITIONS = (A.OneOf, A.RandomOrder, A.Sequential, A.SomeOf)
# What moves pixels along straight lines, so that coordinates of pixels can be interpolated on a coarse grid.
STRAIGHT = (
    *(A.Affine, A.D4, A.HorizontalFlip, A.Perspective, A.RandomRotate90, A.Rotate, A.SafeRotate, A.ShiftScaleRotate),
    *(A.SquareSymmetry, A.Transpose, A.VerticalFlip),
)
MIRRORS = (A.D4, A.HorizontalFlip, A.SquareSymmetry, A.Transpose, A.VerticalFlip)
TRIALS = 8  # a transform that turns by 90° now and then is found out
Transformed: TypeAlias = A.BasicTransform | A.BaseCompose


class Augmentations:
    """The transforms of INPUT.COLOR_JITTER and INPUT.ALBUMENTATIONS, on what a crop shows, before it is padded.

    Geometry moves the label, by nearest neighbor, and coordinates of pixels with the image; where nothing is left to
    show, the image has the color of padding and the label IGNORE.

    Args:
        steps: one after the other.
        bgr: whether images have that order; albumentations has the other.
    """

    def __init__(self, steps: Sequence[Transformed], bgr: bool) -> None:
        self.bgr = bgr
        self.steps = A.Compose(
            list(steps), additional_targets={"coordinates": "mask"}, mask_interpolation=cv2.INTER_NEAREST
        )

    def __call__(self, data: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """
        Args:
            data: "image" (H, W, 3), uint8, and what moves with it: "mask" (H, W), "coordinates" (H, W, 3).
        """
        # One stream of numbers for all: albumentations' own seed would give each step the same.
        seed = int(np.random.randint(2**31))
        self.steps.set_random_state(np.random.default_rng(seed), random.Random(seed))
        result: dict[str, np.ndarray] = self.steps(**{**data, "image": self._turned(data["image"])})
        return result | {"image": self._turned(result["image"])}

    def _turned(self, image: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(image[..., ::-1]) if self.bgr else image

    def names(self) -> list[str]:
        """Return the names of the transforms, without compositions."""
        return [type(leaf).__name__ for leaf in _leaves(self.steps)]


def check_augmentations(cfg: CfgNode) -> None:
    """Try each transform of the config.

    Raises:
        UserError: see build_augmentations; a transform that does not work on an image and its label alone or changes
            the size, or one that DISTILL.TEACHER.CACHE cannot follow.
    """
    augmentations = build_augmentations(cfg)
    leaves = _leaves(augmentations.steps) if augmentations else []
    if cfg.INPUT.FLIP_PAIRS and (found := [leaf for leaf in leaves if isinstance(leaf, MIRRORS)]):
        name = type(found[0]).__name__
        raise UserError(
            f"{KEY}: {name} mirrors images and swaps no classes, but INPUT.FLIP_PAIRS names some: leave it out, and "
            "set INPUT.RANDOM_FLIP to horizontal"
        )
    for leaf in leaves:
        _check(leaf, cfg)


def mirrors(cfg: CfgNode) -> bool:
    """Return whether a transform of INPUT.ALBUMENTATIONS may show an image mirrored."""
    augmentations = build_augmentations(cfg)
    return augmentations is not None and any(isinstance(leaf, MIRRORS) for leaf in _leaves(augmentations.steps))


def build_augmentations(cfg: CfgNode) -> Augmentations | None:
    """Build the augmentations of a config; None if it has none.

    Raises:
        UserError: an unknown transform or argument, or a value that albumentations refuses.
    """
    node, bgr = cfg.INPUT, cfg.INPUT.FORMAT == "BGR"
    color = [round(value) for value in cfg.MODEL.PIXEL_MEAN]
    fill = tuple(color[::-1] if bgr else color)
    own = [_read(entry, fill) for entry in node.ALBUMENTATIONS]
    jitter = [A.ColorJitter(*node.COLOR_JITTER, p=1.0)] if node.COLOR_JITTER else []
    return Augmentations([*jitter, *own], bgr) if jitter or own else None


def _read(entry: Any, fill: tuple[int, ...]) -> Transformed:
    """Build the transform, or composition, that an entry names with its arguments."""
    if not (isinstance(entry, Mapping) and len(entry) == 1):
        raise UserError(f"{KEY}: {entry} is not {WANTED}")
    ((name, given),) = entry.items()
    found, given = getattr(A, str(name), None), {} if given is None else given
    if not (inspect.isclass(found) and issubclass(found, (A.BasicTransform, *COMPOSITIONS))):
        composed = ", ".join(one.__name__ for one in COMPOSITIONS)
        raise UserError(f"{KEY}: {name} is not a transform of albumentations {A.__version__}, nor one of {composed}")
    if not isinstance(given, Mapping):
        raise UserError(f"{KEY}: the arguments of {name} are {given}: want {WANTED}")
    arguments, p = dict(given), given.get("p", 1.0)
    if isinstance(p, bool) or not isinstance(p, (int, float)) or not 0 <= p <= 1:
        raise UserError(f"{KEY}: {name}: p is {p}: want a number from 0 to 1")
    if issubclass(found, COMPOSITIONS):
        return _compose(found, arguments, fill)
    # Of geometry; what hides a part of an image, and says no number there, leaves the label as it is.
    if getattr(inspect.signature(found).parameters.get("fill_mask"), "default", None) is not None:
        # A hole of MaskDropout has one number for all channels.
        arguments = {"fill_mask": IGNORE} | ({} if found is A.MaskDropout else {"fill": fill}) | arguments
    # Most check their arguments, and then only warn where they are not told to be strict.
    checks = "InitSchema" in vars(next(one for one in found.__mro__ if "__init__" in vars(one)))
    try:
        with warnings.catch_warnings(action="ignore"):  # what albumentations would rather have is no mistake
            return found(**arguments, **({"strict": True} if checks else {}))
    except (TypeError, ValueError) as error:
        raise UserError(f"{KEY}: {name}: {_reason(error)}") from error


def _compose(found: type[A.BaseCompose], arguments: dict[str, Any], fill: tuple[int, ...]) -> A.BaseCompose:
    name, entries = found.__name__, arguments.pop("transforms", None)
    if not (isinstance(entries, (list, tuple)) and entries):
        raise UserError(f"{KEY}: {name} has no transforms: want {{{name}: {{transforms: [{{…}}, …], p: 0.5}}}}")
    steps = [_read(entry, fill) for entry in entries]
    try:
        with warnings.catch_warnings(action="error"):
            return found(transforms=steps, **arguments)
    except (TypeError, ValueError, ZeroDivisionError, Warning) as error:
        raise UserError(f"{KEY}: {name}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Return what albumentations says, in a line."""
    if isinstance(cause := error.__cause__, ValidationError):
        first = cause.errors()[0]
        return f"{first['loc'][0]}: {first['msg']}" if first["loc"] else first["msg"]
    return " ".join(str(error).split())


def _leaves(step: Transformed) -> list[A.BasicTransform]:
    if isinstance(step, A.BaseCompose):
        return [leaf for one in step.transforms for leaf in _leaves(one)]
    return [step]


def _check(leaf: A.BasicTransform, cfg: CfgNode) -> None:
    """Try a transform on a crop that is smaller than it may be, and see what it makes of it."""
    (height, width), name, classes = cfg.INPUT.CROP_SIZE, type(leaf).__name__, len(cfg.DATASETS.CLASSES)
    size = -(-height * 7 // 8), -(-width * 3 // 4)
    # Where the crop is a square, what is turned by 90° fits in it, too.
    sizes = {size, size[::-1]} if height == width else {size}
    rng = np.random.default_rng(0)
    data = {"image": rng.integers(0, 256, (*size, 3), np.uint8)}
    if not cfg.DATASETS.UNLABELED:  # whose images have no label
        data["mask"] = rng.integers(0, classes, size, np.uint8)
    if "image" not in leaf.available_keys:
        raise UserError(f"{KEY}: {name} changes nothing in an image: leave it out")
    for seed in range(TRIALS):
        leaf.set_random_seed(seed)
        try:
            result = leaf(force_apply=True, **data)
        except Exception as error:  # each transform says in its own way what it lacks
            alone = "an image and its label" if "mask" in data else "an image without a label"
            raise UserError(f"{KEY}: {name} cannot be applied to {alone} alone: {one_line(error)}") from error
        if result["image"].dtype != np.uint8:
            kind = result["image"].dtype
            raise UserError(
                f"{KEY}: {name} gives pixels of {kind}: leave it out, as MODEL.PIXEL_MEAN and STD normalize"
            )
        if result["image"].shape[:2] not in sizes:
            raise UserError(f"{KEY}: {name} changes the size, which is for INPUT.SCALES and CROP_SIZE to say")
        if "mask" in result and not ((result["mask"] < classes) | (result["mask"] == IGNORE)).all():
            raise UserError(f"{KEY}: {name} gives labels beyond the {classes} classes: set its fill_mask to {IGNORE}")
    if cfg.DISTILL.TEACHER.CACHE and is_on(cfg.DISTILL) and not _is_followed(leaf):
        followed = ", ".join(one.__name__ for one in STRAIGHT)
        raise UserError(
            f"{KEY}: {name} moves pixels in a way that DISTILL.TEACHER.CACHE does not follow: leave one of both out, "
            f"or take one of {followed}"
        )


def _is_followed(leaf: A.BasicTransform) -> bool:
    """Return whether coordinates of pixels move as pixels do, or no pixel moves."""
    hides = None in (getattr(leaf, "fill_mask", 0), getattr(leaf, "mask_drop_value", 0))
    return hides or isinstance(leaf, (A.ImageOnlyTransform, A.NoOp, *STRAIGHT))
