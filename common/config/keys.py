"""Keys of a config: default, allowed values and meaning of each; and the checks of a whole config."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

from fvcore.common.config import CfgNode

from densedist.common.errors import UserError

STOCK = object()  # in place of a default: Detectron2 has the key, and its default holds


@dataclass(frozen=True)
class Key:
    """A key of a config.

    Args:
        default: of the type that every value must have; STOCK = the key and its default are Detectron2's.
        allowed: says whether a value of that type may stand here.
        words: the values that may, for "KEY is VALUE: want WORDS".
        trust: the key lets a file from elsewhere run code, so only the user may set it (common/config/trust.py).
        meaning: what it does, in one line of docs/keys.md.
        of_files: of DISTILL.TEACHER: says what a teacher's files do not, and so is default for another teacher's.
        stands_for: of DISTILL.TEACHER: the key of the teacher's own config that a value other than the default
            replaces; "" = none.
        of_all: of DISTILL.TEACHER: holds for all teachers of an ensemble together, and stands in none of MORE.
        needs: groups of sides of DATASETS: of each group one side has to have data, or the key would do nothing.
        choices: all values that may stand here, where they are a few texts; empty = there are more, or others.
    """

    default: Any
    allowed: Callable[[Any], bool] = lambda _: True
    words: str = ""
    trust: bool = False
    meaning: str = ""
    of_files: bool = False
    stands_for: str = ""
    of_all: bool = False
    needs: tuple[Sequence[str], ...] = ()
    choices: tuple[str, ...] = ()


def at_least(least: float, default: Any = STOCK, words: str = "", meaning: str = "") -> Key:
    """Return a key for a number that is `least` or more."""
    return Key(default, lambda value: value >= least, words or f"{least:g} or more", meaning=meaning)


def above(bound: float, default: Any, words: str = "", meaning: str = "") -> Key:
    """Return a key for a number above `bound`."""
    return Key(default, lambda value: value > bound, words or f"a number above {bound}", meaning=meaning)


def up_to_one(default: float, words: str, meaning: str = "") -> Key:
    """Return a key for a number from 0 to 1: a share, a score or a probability."""
    return Key(default, lambda value: 0 <= value <= 1, words, meaning=meaning)


def one_of(*values: str, default: Any = None, meaning: str = "") -> Key:
    """Return a key for one of the values, by default the first; a default that is none of them may stand, too."""
    *most, last = values
    words = f"{', '.join(most)} or {last}" if most else last
    default = values[0] if default is None else default
    choices = values if default is STOCK or default in values else (default, *values)
    return Key(default, lambda value: value in choices, words, meaning=meaning, choices=choices)


def every(key: Key, default: Any, words: str, meaning: str = "") -> Key:
    """Return a key for a list of at least one value, each of which another key allows."""
    return Key(default, lambda values: bool(values) and all(map(key.allowed, values)), words, meaning=meaning)


def of_files(key: Key, stands_for: str = "") -> Key:
    """Return a key of DISTILL.TEACHER that says what a teacher's files do not."""
    return replace(key, of_files=True, stands_for=stands_for)


def of_all(key: Key) -> Key:
    """Return a key of DISTILL.TEACHER that holds for all teachers of an ensemble together."""
    return replace(key, of_all=True)


def needing(key: Key, *sides: Sequence[str]) -> Key:
    """Return a key that does nothing without data: of each group of sides of DATASETS one has to have some."""
    return replace(key, needs=sides)


def add_keys(cfg: CfgNode, keys: Mapping[str, Key]) -> None:
    """Add keys with their defaults, and the groups that they are in, in place."""
    kind = type(cfg)  # yacs merges groups of one class only: Detectron2's where cfg is Detectron2's
    for name, key in keys.items():
        if key.default is not STOCK:
            *groups, last = name.split(".")
            node = cfg
            for group in groups:
                node = node.setdefault(group, kind())
            node[last] = kind(new_allowed=True) if isinstance(key.default, CfgNode) else deepcopy(key.default)


def check_values(cfg: CfgNode, keys: Mapping[str, Key]) -> None:
    """Refuse a value that its key does not allow, learning rates that do not fit together, and unusable pixel
    statistics or devices.

    Raises:
        UserError: naming the first such key, its value, and what is wanted.
    """
    for name, key in keys.items():
        value = value_of(cfg, name)
        if not key.allowed(value):
            raise not_allowed(name, value, key.words)
    _check_learning_rates(cfg.SOLVER)
    _check_pixels(cfg.MODEL)
    _check_device(cfg.MODEL.DEVICE)


def not_allowed(name: str, value: Any, words: str) -> UserError:
    """Return the refusal of a value that a key does not allow.

    Args:
        words: the values that it does.
    """
    return UserError(f"{name} is {value}: want {words}")


def _check_learning_rates(solver: CfgNode) -> None:
    """Refuse a last learning rate above the first."""
    if solver.BASE_LR_END > solver.BASE_LR:
        raise UserError(f"SOLVER.BASE_LR_END is {solver.BASE_LR_END}: want 0 to SOLVER.BASE_LR, {solver.BASE_LR}")


def _check_pixels(model: CfgNode) -> None:
    """Refuse means and deviations of pixels from 0 to 1: models here see 0 to 255."""
    remedy = "of pixels of 0 to 255: multiply by 255 what is for pixels of 0 to 1"
    for name, values in (("MEAN", model.PIXEL_MEAN), ("STD", model.PIXEL_STD)):
        given = f"MODEL.PIXEL_{name} is {values}"
        if not all(isinstance(value, (int, float)) for value in values):
            raise UserError(f"{given}: want a number for each channel")
        if name == "MEAN" and 0 < max(map(abs, values), default=0) <= 1:
            raise UserError(f"{given}: want the mean {remedy}")
        if name == "STD" and not all(value >= 1 for value in values):
            raise UserError(f"{given}: want deviations of 1 or more, {remedy}")


def _check_device(name: str) -> None:
    """Refuse a device that PyTorch does not know, or a GPU that this machine does not have."""
    import torch  # here, so that the keys are known without it

    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"MODEL.DEVICE is {name}: want cpu, cuda, or cuda:0 and so on") from error
    if device.type == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
        raise UserError(f"MODEL.DEVICE is {name}, but this machine has {count} GPUs, counted from 0")


def value_of(cfg: CfgNode, name: str) -> Any:
    """Return the value of a dotted key, None if there is none."""
    node: Any = cfg
    for part in name.split("."):
        node = node.get(part) if isinstance(node, CfgNode) else None
    return node
