"""The space of a search: the methods of `densedist compare`, each with values or ranges of its keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING

from detectron2.config import CfgNode

from densedist.common.compare.methods import RANGE, full_key, is_of_teacher, joined, pairs, parts, switches
from densedist.common.config.former_keys import current_pairs
from densedist.common.config.keys import Key, value_of
from densedist.common.distill.sources import SHARE
from densedist.common.errors import UserError

if TYPE_CHECKING:
    from optuna.trial import BaseTrial


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, ends included; drawn by their logarithm where low is above 0.

    Args:
        whole: whole numbers only.
    """

    low: float
    high: float
    whole: bool = False

    def suggest(self, trial: BaseTrial, name: str) -> str:
        """Suggest a number as a config has it, rounded to four digits if it is not whole."""
        if self.whole:
            return str(trial.suggest_int(name, int(self.low), int(self.high), log=self.low > 0))
        return f"{trial.suggest_float(name, self.low, self.high, log=self.low > 0):.4g}"

    @property
    def ends(self) -> tuple[str, ...]:
        return (f"{self.low:g}", f"{self.high:g}")


@dataclass(frozen=True)
class Choice:
    """A method with those of its keys that are of its teacher, and the value of each other key by its whole name."""

    method: str
    keys: Mapping[str, str] = field(default_factory=dict)

    def words(self, unlabeled: Sequence[str], overrides: Sequence[str], task_keys: Mapping[str, Key]) -> list[str]:
        """Return the overrides that train with the choice; its keys win over the overrides of all choices."""
        chosen = [word for pair in self.keys.items() for word in pair]
        return [*switches(self.method, unlabeled, overrides, task_keys), *chosen]


@dataclass(frozen=True)
class Space:
    """For each method, by the whole name of a key: its values, or a range."""

    methods: Mapping[str, Mapping[str, tuple[str, ...] | Range]]

    @classmethod
    def of(cls, words: Sequence[str], cfg: CfgNode, best: str = "") -> Space:
        """Read the methods of a list that was split at commas.

        Args:
            cfg: with all keys; where a key's value is a whole number, a range with whole ends has whole numbers only.
            best: the method that the part "best" stands for.

        Raises:
            UserError: an unknown part, a method or key that is named twice, a key without a value, a range that is
                none, is mixed with values, or is of what labels are written by.
        """
        methods: dict[str, Mapping[str, tuple[str, ...] | Range]] = {}
        of_task = [f"{group}.{key}" for group in ("DISTILL", "PSEUDO_LABELS") for key in cfg[group]]
        for method in joined(words, best):
            joint = parts(method)
            names = ["+".join(chosen) for chosen in product(*map(_names, joint))]
            name = names[0]
            if twice := methods.keys() & set(names):
                raise UserError(f"--methods: {min(twice)} is named twice: give each of its keys all values at once")
            keys: dict[str, tuple[str, ...] | Range] = {}
            for part in joint:
                for key, values in pairs(part):
                    kind = part.partition("@")[0]
                    if is_of_teacher(kind, key):
                        continue  # in the name
                    full = full_key(kind, key, of_task)
                    current = [x for value in values for x in current_pairs([(full, value)], f"--methods: {part}")]
                    if not current:
                        continue  # a key that was removed
                    full, values = current[0][0], [value for _, value in current]
                    if full in keys:
                        raise UserError(f"--methods: {name} has {full} twice: give it all values at once")
                    given = f"{name}: {key}={','.join(values)}"
                    keys[full] = found = _values(given, values, value_of(cfg, full))
                    if full == SHARE and isinstance(found, Range):
                        raise UserError(
                            f"--methods: {given}: a batch has whole images: list values, e.g. SHARE=0.25,0.5"
                        )
            methods |= dict.fromkeys(names, keys)
        if not methods:
            raise UserError("--methods is empty: name methods, e.g. dist@TAU=1..8")
        return cls(methods)

    def first(self, method: str) -> Choice:
        """Return the choice with each key's first or lowest value."""
        return Choice(method, {key: _known(values)[0] for key, values in self.methods[method].items()})

    def corners(self, method: str) -> list[Choice]:
        """Return the first choice, and one for each other named value that differs in this value alone."""
        first = self.first(method)
        others = [(key, value) for key, values in self.methods[method].items() for value in _known(values)[1:]]
        return [first, *(Choice(method, {**first.keys, key: value}) for key, value in others)]

    def suggest(self, trial: BaseTrial) -> Choice:
        """Suggest a choice by a trial's parameters: "method", if there are several, and "METHOD:KEY" for each key."""
        names = list(self.methods)
        method = str(trial.suggest_categorical("method", names)) if len(names) > 1 else names[0]
        keys = {}
        for key, values in self.methods[method].items():
            name = f"{method}:{short(key)}"
            if isinstance(values, Range):
                keys[key] = values.suggest(trial, name)
            else:
                keys[key] = str(trial.suggest_categorical(name, values)) if len(values) > 1 else values[0]
        return Choice(method, keys)


def short(key: str) -> str:
    """Return a key's name for people: DIST.TAU for DISTILL.DIST.TAU."""
    return key.removeprefix("DISTILL.")


def _names(part: str) -> list[str]:
    """Return the names of a part of a method, one for each teacher, threshold or view that it asks for."""
    name = part.partition("@")[0]
    settings = [[f"{key}={value}" for value in values] for key, values in pairs(part) if is_of_teacher(name, key)]
    for setting in (word for words in settings for word in words):
        if RANGE.fullmatch(setting.partition("=")[2]):
            raise UserError(
                f"--methods: {name}: {setting}: each value needs labels of its own: list values, e.g. 0,0.5"
            )
    return [name + f"@{';'.join(chosen)}" * bool(chosen) for chosen in product(*settings)]


def _known(values: tuple[str, ...] | Range) -> tuple[str, ...]:
    return values.ends if isinstance(values, Range) else values


def _values(what: str, values: Sequence[str], current: object) -> tuple[str, ...] | Range:
    ranges = [ends.groups() for value in values if (ends := RANGE.fullmatch(value))]
    if not ranges:
        return tuple(dict.fromkeys(values))
    if len(values) > 1:
        raise UserError(f"--methods: {what}: want one range LOW..HIGH, or values, not both")
    low, high = ranges[0]
    if float(low) >= float(high):
        raise UserError(f"--methods: {what}: want LOW..HIGH with LOW below HIGH")
    is_whole = type(current) is int and float(low).is_integer() and float(high).is_integer()
    return Range(float(low), float(high), is_whole)
