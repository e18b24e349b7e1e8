"""More models that are drawn beside a student: --beside NAME=W."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from densedist.common.errors import UserError
from densedist.common.run_files import Weights, locate

T = TypeVar("T")


def locate_beside(given: Sequence[str]) -> dict[str, Weights]:
    """The files of the models by name.

    Args:
        given: NAME=WEIGHTS each, see locate.

    Raises:
        UserError: no name, one that is taken, or weights that are not there.
    """
    result: dict[str, Weights] = {}
    for words in given:
        name, _, weights = words.partition("=")
        if not (name and weights):
            raise UserError(f'--beside is {words}: want NAME=WEIGHTS, e.g. "alone=output/student"')
        if name in ("image", "truth", "teacher", "student", *result):
            raise UserError(f"--beside: the name {name} is taken: want another one")
        result[name] = locate(weights, key=f"--beside {name}")
    return result


def load_beside(
    beside: Mapping[str, Weights],
    load: Callable[[Weights], T],
    classes_of: Callable[[T], Sequence[str]],
    classes: Sequence[str],
) -> dict[str, T]:
    """The models by name.

    Args:
        load: a model from its files.
        classes_of: the names of a model's classes.
        classes: those of the student.

    Raises:
        UserError: whatever load() raises, or a model of other classes.
    """
    result = {name: load(weights) for name, weights in beside.items()}
    for name, model in result.items():
        if list(theirs := classes_of(model)) != list(classes):
            raise UserError(f"--beside {name}: its classes are {', '.join(theirs)}, not {', '.join(classes)}")
    return result
