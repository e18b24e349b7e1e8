"""More models of the same classes, by name, that --beside draws next to a student."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from densedist.common.errors import UserError
from densedist.common.run_files import Weights, locate

T = TypeVar("T")


def locate_beside(given: Mapping[str, str]) -> dict[str, Weights]:
    """Find the weights of further models, by name.

    Args:
        given: weights by name, see locate.

    Raises:
        UserError: a name that is taken, or weights that are not there.
    """
    for name in given:
        if name in ("image", "truth", "teacher", "student"):
            raise UserError(f"--beside: the name {name} is already used: choose another one")
    return {name: locate(weights, key=f"--beside {name}") for name, weights in given.items()}


def load_beside(
    beside: Mapping[str, Weights],
    load: Callable[[Weights], T],
    classes_of: Callable[[T], Sequence[str]],
    classes: Sequence[str],
) -> dict[str, T]:
    """Load further models, by name.

    Args:
        load: a model from its files.
        classes_of: the names of a model's classes.
        classes: the student's classes.

    Raises:
        UserError: whatever load() raises, or a model of other classes.
    """
    result = {name: load(weights) for name, weights in beside.items()}
    for name, model in result.items():
        if list(theirs := classes_of(model)) != list(classes):
            raise UserError(f"--beside {name}: its classes are {', '.join(theirs)}, not {', '.join(classes)}")
    return result
