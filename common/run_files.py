"""Files of a run that others use: the weights, and the config that describes them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from densedist.common.config.files import find_config
from densedist.common.errors import UserError

CONFIG, FINAL, BEST, LAST, METRICS = (
    "config.yaml",
    "model_final.pth",
    "model_best.pth",
    "last_checkpoint",
    "metrics.json",
)


@dataclass(frozen=True)
class Weights:
    """Trained weights.

    Args:
        file: a checkpoint, or a folder of SMP's save_pretrained.
        config: the config that says what they are.
        trusted: the user named that config; False for one that was found with the weights (common/config/trust.py).
        key: what names the weights, for messages.
        overrides: KEY VALUE … for the config.
    """

    file: str
    config: str
    trusted: bool
    key: str = "--weights"
    overrides: Sequence[str] = ()

    def under(self, *overrides: str) -> "Weights":
        """Return the same with overrides that have the last word."""
        return replace(self, overrides=[*self.overrides, *overrides])


def config_beside(weights: str) -> Path | None:
    """Return the config.yaml in a folder of weights, or in the folder of a file of weights; None if there is none."""
    path = Path(weights)
    places = (path / CONFIG, path.parent / CONFIG) if weights and path.exists() else ()
    return next((file for file in places if file.is_file()), None)


def locate(weights: str, config_file: str = "", key: str = "--weights") -> Weights:
    """Find trained weights and their config.

    Args:
        weights: a checkpoint, or the OUTPUT_DIR of a finished run.
        config_file: another config than the one in the weights' folder: a path or a name (see find_config).
        key: what names the weights, for messages.

    Raises:
        UserError: neither is there.
    """
    path = Path(weights)
    if path.is_dir() and (path / CONFIG).is_file():
        path = path / FINAL
        if not path.is_file():
            raise UserError(f"{key}: there is no {path}: the run has not ended; name another checkpoint")
    elif not path.exists():
        raise UserError(f"{key}: there is no file {weights}")
    if config_file:
        return Weights(str(path), find_config(config_file, "--config-file"), True, key)
    if (config := config_beside(weights)) is None:
        hint = "name its config with --config-file" if key == "--weights" else "put its config there"
        raise UserError(f"{key}: there is no {CONFIG} next to {weights}: {hint}")
    return Weights(str(path), str(config), False, key)


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
            raise UserError(f"--beside: the name {name} is taken: want another one")
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
