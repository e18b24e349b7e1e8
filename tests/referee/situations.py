"""Situations: a form of data, and the choices in which it is not as usual."""

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from referee.scenes import World, draw

Choices = Mapping[str, str]


@dataclass(frozen=True)
class Handed:
    """What is handed to the suite.

    Args:
        config: what the user writes into a config file, by section.
        names: of the classes, in the order that the files give them.
        images: for each scene the pixels (H, W, 3), RGB, that a reference reader sees.
        near: pixels by which a box may be off, as this writer rounds.
        level: levels by which pixels may be off, where two decoders round.
        crowds: whether the form can say that something is a crowd; else crowds are not written.
        masks: whether the form has masks of the objects.
        unnamed: the folder whose files nothing names, so that nobody knows when one is gone; "" = there is none.
        unread: how the names of files end that lie there and are not asked for, and names of their folders.
        sized: whether the annotations say how large the images are.
    """

    config: dict[str, Any]
    names: tuple[str, ...]
    images: tuple[np.ndarray, ...]
    near: float = 1e-3
    level: int = 0
    crowds: bool = True
    masks: bool = False
    unnamed: str = ""
    unread: tuple[str, ...] = ()
    sized: bool = True


@dataclass(frozen=True)
class Form:
    """A form of data, as one library writes it.

    Args:
        name: e.g. "folders by Pillow".
        write: of (world, folder, choices).
        choices: by name the values, of which the first is usual.
        may: (name, value) that may be refused alone; any other value alone must be read.
        drawn: arguments of scenes.draw that this form needs to be so.
    """

    name: str
    write: Callable[[World, Path, Choices], Handed]
    choices: Mapping[str, Sequence[str]]
    may: frozenset[tuple[str, str]] = frozenset()
    drawn: Mapping[str, Any] = field(default_factory=dict)

    @property
    def all_choices(self) -> Mapping[str, Sequence[str]]:
        """Its own and those of every form, without what is known to be read wrong."""
        return {
            name: tuple(value for value in values if (name, value) not in NOT_YET)
            for name, values in {**self.choices, **COMMON}.items()
        }

    def usual(self) -> dict[str, str]:
        return {name: values[0] for name, values in self.all_choices.items()}


# Of every form: the folder that the data lies in, and what lay there before and was read.
COMMON: Mapping[str, Sequence[str]] = {
    "place": ("data", "my data", "data [1]", "images/labels", "Größe", "a.b", "c,d", "e'f", "100%"),
    "before": ("nothing", "other data"),
}


WORLD: Mapping[str, Sequence[Any]] = {
    "images": (2, 1, 3, 4),
    "names": ("plain", "blanks", "numbers", "other letters", "signs", "truth values", "left and right", "cases"),
    "classes": (3, 2, 4),
    "empty": ("none", "first", "last"),
    "crowds": (False, True),
    "ignored": (True, False),
    "sizes": ("mixed", "equal", "wide", "tall"),
}


# Faults that were found and wait to be mended, (choice, value): they are not tried. Empty, but for a day or two.
NOT_YET: frozenset[tuple[str, str]] = frozenset()


# Choices that many forms have, and that mean the same in each.
SHARED = ("place", "before", "stem", "junk", "numbering")


@dataclass(frozen=True)
class Situation:
    """What is tried; printed, it can be given to the judge again.

    Args:
        form: the name of a form.
        seed: of the scenes.
        world: arguments of scenes.draw that are not as usual.
        varied: choices of the form that are not as usual.
        damage: the name of a damage, "" = none.
        planted: the error in predictions, "none" = they are perfect.
    """

    form: str
    seed: int = 0
    world: tuple[tuple[str, Any], ...] = ()
    varied: tuple[tuple[str, str], ...] = ()
    damage: str = ""
    planted: str = "none"

    def must_be_read(self, form: Form) -> bool:
        """Whether nothing speaks for a refusal: what is unusual is one choice at most, and a common one."""
        unusual = {*self.varied, *self.world}
        return not self.damage and len(self.varied) <= 1 and not unusual & form.may

    def scenes(self, form: Form) -> World:
        return draw(self.seed, **{**dict(self.world), **form.drawn})

    def choices(self, form: Form) -> dict[str, str]:
        return form.usual() | dict(self.varied)


def situations(forms: Sequence[Form], damages: Sequence[str], planted: Sequence[str]) -> st.SearchStrategy[Situation]:
    """Strategy of situations in which few things are unusual, so that one refusal does not hide the rest."""
    by_name = {form.name: form for form in forms}
    # Each choice of each form is as likely, whatever others the form has.
    first = [situation for form in forms for situation in singles(form)]

    @st.composite
    def situation(pick: st.DrawFn) -> Situation:
        begin = pick(st.sampled_from(first))
        form = by_name[begin.form]
        varied = dict(_unusual(pick, form.all_choices, 2)) | dict(begin.varied)
        return Situation(
            form.name,
            pick(st.integers(0, 999)),
            _unusual(pick, {name: values for name, values in WORLD.items() if name not in form.drawn}, 2),
            tuple(sorted(varied.items())),
            pick(st.sampled_from(["", *[""] * 2 * len(damages), *damages])),
            pick(st.sampled_from(list(planted))),
        )

    return situation()


def _unusual(pick: st.DrawFn, choices: Mapping[str, Sequence[Any]], most: int) -> tuple[tuple[str, Any], ...]:
    can = [name for name, values in choices.items() if len(values) > 1]
    names = pick(st.lists(st.sampled_from(can), max_size=most, unique=True)) if can else []
    return tuple((name, pick(st.sampled_from(list(choices[name][1:])))) for name in sorted(names))


def singles(form: Form) -> list[Situation]:
    """The form as usual, and each of its choices by itself."""
    alone = [((name, value),) for name, values in form.all_choices.items() for value in values[1:]]
    return [Situation(form.name), *(Situation(form.name, varied=varied) for varied in alone)]


def some_singles(forms: Sequence[Form]) -> list[Situation]:
    """Singles of all forms; of what means the same in many, as the names of files, two forms for each value."""
    found = [situation for form in forms for situation in singles(form)]
    shared: dict[tuple[str, str], list[Situation]] = {}
    for situation in found:
        for choice in situation.varied:
            if choice[0] in SHARED:
                shared.setdefault(choice, []).append(situation)
    kept = {
        alike[(number + half) % len(alike)]
        for number, alike in enumerate(shared.values())
        for half in (0, len(alike) // 2)
    }
    return [s for s in found if s in kept or not any(name in SHARED for name, _ in s.varied)]


def folder() -> tempfile.TemporaryDirectory:
    """In memory where that is a folder: a disk takes longer to make and remove folders than all the rest."""
    memory = Path("/dev/shm")
    return tempfile.TemporaryDirectory(prefix="referee_", dir=memory if os.access(memory, os.W_OK) else None)
