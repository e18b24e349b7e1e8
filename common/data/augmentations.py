"""COLOR_JITTER and ALBUMENTATIONS: transforms of albumentations that a config names as plain data."""

import inspect
import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import albumentations as A
import cv2
import numpy as np
from detectron2.config import CfgNode
from pydantic import ValidationError

from densedist.common.errors import UserError, one_line

JITTER, TRANSFORMS = "COLOR_JITTER", "ALBUMENTATIONS"  # the keys of a node that name augmentations
WANTED = "{HorizontalFlip: {p: 0.5}}, a transform of albumentations with its arguments"
COMPOSITIONS = (A.OneOf, A.RandomOrder, A.Sequential, A.SomeOf)
TRIALS = 8  # a transform that turns by 90° now and then is found out
Transformed: TypeAlias = A.BasicTransform | A.BaseCompose
# Given a transform's class: arguments that it has unless the config says otherwise.
Defaults: TypeAlias = Callable[[type[A.BasicTransform]], Mapping[str, Any]]


class Augmentations:
    """Transforms of albumentations, one after the other, whose random numbers NumPy's global state decides.

    Args:
        steps: one after the other.
        bgr: whether images have that order; albumentations has the other.
        masks: more names of what moves with the image, by nearest neighbor, as "mask" does.
    """

    def __init__(self, steps: Sequence[Transformed], bgr: bool, masks: Sequence[str] = ()) -> None:
        self.bgr = bgr
        more = dict.fromkeys(masks, "mask")
        self.steps = A.Compose(list(steps), additional_targets=more, mask_interpolation=cv2.INTER_NEAREST)

    def __call__(self, data: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """
        Args:
            data: "image" (H, W, 3), uint8, and what moves with it: "mask" (H, W), and what `masks` names.
        """
        # One stream of numbers for all: albumentations' own seed would give each step the same.
        seed = int(np.random.randint(2**31))
        self.steps.set_random_state(np.random.default_rng(seed), random.Random(seed))
        result: dict[str, np.ndarray] = self.steps(**{**data, "image": self._turned(data["image"])})
        return result | {"image": self._turned(result["image"])}

    def _turned(self, image: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(image[..., ::-1]) if self.bgr else image

    @property
    def leaves(self) -> list[A.BasicTransform]:
        """Return the transforms, without compositions."""
        return _leaves(self.steps)

    def __repr__(self) -> str:
        return ", ".join(type(leaf).__name__ for leaf in self.leaves)


def build_augmentations(
    node: CfgNode, name: str, bgr: bool, defaults: Defaults = lambda _: {}, masks: Sequence[str] = ()
) -> Augmentations | None:
    """Build what COLOR_JITTER and ALBUMENTATIONS of a node of the config name; None without any.

    Args:
        name: of the node, for messages.
        bgr, masks: see Augmentations.

    Raises:
        UserError: an unknown transform or argument, or a value that albumentations refuses.
    """
    own = [_read(entry, f"{name}.{TRANSFORMS}", defaults) for entry in node[TRANSFORMS]]
    jitter = [A.ColorJitter(*node[JITTER], p=1.0)] if node[JITTER] else []
    return Augmentations([*jitter, *own], bgr, masks) if jitter or own else None


def build_photometric(node: CfgNode, name: str, bgr: bool, remedy: str) -> Augmentations | None:
    """Build the augmentations of a node that may move no pixel.

    Args:
        remedy: where to name a transform that does.

    Raises:
        UserError: see build_augmentations; a transform that moves pixels, or does not work on an image alone.
    """
    found = build_augmentations(node, name, bgr)
    for leaf in found.leaves if found else []:
        _check_photometric(leaf, f"{name}.{TRANSFORMS}: {type(leaf).__name__}", remedy)
    return found


def hides(leaf: A.BasicTransform) -> bool:
    """Return whether a transform only hides a part of an image, as CoarseDropout, and leaves labels as they are."""
    return None in (getattr(leaf, "fill_mask", 0), getattr(leaf, "mask_drop_value", 0))


def keeps_pixels(leaf: A.BasicTransform) -> bool:
    """Return whether a transform leaves each pixel where it is."""
    return isinstance(leaf, (A.ImageOnlyTransform, A.NoOp)) or hides(leaf)


def trial(leaf: A.BasicTransform, data: Mapping[str, np.ndarray], key: str, alone: str) -> list[dict[str, np.ndarray]]:
    """Return what a transform makes of an image under several seeds.

    Args:
        data: see Augmentations.
        key: the key and the transform, for messages.
        alone: what data are, in words.

    Raises:
        UserError: it cannot be applied to them, or gives pixels of another type.
    """
    if "image" not in leaf.available_keys:
        raise UserError(f"{key} changes nothing in an image: leave it out")
    results = []
    for seed in range(TRIALS):
        leaf.set_random_seed(seed)
        try:
            result = leaf(force_apply=True, **data)
        except Exception as error:  # each transform says in its own way what it lacks
            raise UserError(f"{key} cannot be applied to {alone} alone: {one_line(error)}") from error
        if (kind := result["image"].dtype) != np.uint8:
            raise UserError(f"{key} gives pixels of {kind}: leave it out, as MODEL.PIXEL_MEAN and STD normalize")
        results.append(result)
    return results


def _check_photometric(leaf: A.BasicTransform, key: str, remedy: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (72, 96, 3), np.uint8)
    results = trial(leaf, {"image": image}, key, "an image")
    if not keeps_pixels(leaf) or any(result["image"].shape != image.shape for result in results):
        raise UserError(f"{key} moves pixels: {remedy}")


def _read(entry: Any, key: str, defaults: Defaults) -> Transformed:
    """Build the transform, or composition, that an entry names with its arguments."""
    if not (isinstance(entry, Mapping) and len(entry) == 1):
        raise UserError(f"{key}: {entry} is not {WANTED}")
    ((name, given),) = entry.items()
    found, given = getattr(A, str(name), None), {} if given is None else given
    if not (inspect.isclass(found) and issubclass(found, (A.BasicTransform, *COMPOSITIONS))):
        composed = ", ".join(one.__name__ for one in COMPOSITIONS)
        raise UserError(f"{key}: {name} is not a transform of albumentations {A.__version__}, nor one of {composed}")
    if not isinstance(given, Mapping):
        raise UserError(f"{key}: the arguments of {name} are {given}: want {WANTED}")
    arguments, p = dict(given), given.get("p", 1.0)
    if isinstance(p, bool) or not isinstance(p, (int, float)) or not 0 <= p <= 1:
        raise UserError(f"{key}: {name}: p is {p}: want a number from 0 to 1")
    if issubclass(found, COMPOSITIONS):
        return _compose(found, arguments, key, defaults)
    arguments = {**defaults(found), **arguments}
    # Most check their arguments, and then only warn where they are not told to be strict.
    checks = "InitSchema" in vars(next(one for one in found.__mro__ if "__init__" in vars(one)))
    try:
        with warnings.catch_warnings(action="ignore"):  # what albumentations would rather have is no mistake
            return found(**arguments, **({"strict": True} if checks else {}))
    except (TypeError, ValueError) as error:
        raise UserError(f"{key}: {name}: {_reason(error)}") from error


def _compose(found: type[A.BaseCompose], arguments: dict[str, Any], key: str, defaults: Defaults) -> A.BaseCompose:
    name, entries = found.__name__, arguments.pop("transforms", None)
    if not (isinstance(entries, (list, tuple)) and entries):
        raise UserError(f"{key}: {name} has no transforms: want {{{name}: {{transforms: [{{…}}, …], p: 0.5}}}}")
    steps = [_read(entry, key, defaults) for entry in entries]
    try:
        with warnings.catch_warnings(action="error"):
            return found(transforms=steps, **arguments)
    except (TypeError, ValueError, ZeroDivisionError, Warning) as error:
        raise UserError(f"{key}: {name}: {_reason(error)}") from error


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
