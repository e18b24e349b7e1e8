"""The two tasks by name, and which one a config is of; neither is imported before it is asked for."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from densedist.common.config import find_config, read_file
from densedist.common.errors import UserError
from densedist.known_keys import defaults

if TYPE_CHECKING:
    from densedist.common.task import Task

IN_WORDS = {"det": "detection", "seg": "segmentation"}
LEAVE_OUT = "or leave out the task, which the config says"


def task_named(name: str) -> "Task":
    """Return the task "det" or "seg"; the other one need not even be importable."""
    if name == "det":
        from densedist.det.task import TASK as DET

        return DET
    from densedist.seg.task import TASK as SEG

    return SEG


def short_name(words: str) -> str:
    """Return "det" or "seg" for what IN_WORDS calls it.

    Raises:
        UserError: it is neither.
    """
    for name, said in IN_WORDS.items():
        if said == words:
            return name
    raise UserError(f"--weights: a model for {words}: want one for {' or '.join(IN_WORDS.values())}")


def task_of(config_file: str, key: str = "--config-file") -> "Task":
    """Return the task of a config: the one that name_of finds, else detection, as of Detectron2's own configs.

    Args:
        config_file: a path or a name (see find_config).

    Raises:
        UserError: no such file, one that is no plain YAML, or of another task.
    """
    return task_named(name_of(config_file, key) or "det")


def choose_task(name: str, config_file: str, key: str = "--config-file") -> "Task":
    """Return the task of a name; where it is empty, that of a config (see task_of).

    Raises:
        UserError: the config is for the other task.
    """
    refuse_other_task(name, config_file, key, LEAVE_OUT)
    return task_named(name) if name else task_of(config_file, key)


def refuse_other_task(name: str, config_file: str, key: str, remedy: str = "") -> None:
    """Refuse a config that is for another task than the one of a name; empty texts refuse nothing.

    Args:
        key: what names the config, for messages.
        remedy: another one than to name a config for the task.

    Raises:
        UserError: naming both tasks.
    """
    theirs = name_of(config_file, key) if name and config_file else ""
    if theirs and theirs != name:
        said = f"{key}: {config_file} is for {IN_WORDS[theirs]}, not for {IN_WORDS[name]}"
        raise UserError(", ".join(filter(None, [f"{said}: name one for {IN_WORDS[name]}", remedy])))


def name_of(config_file: str, key: str = "--config-file") -> str:
    """Return "det" or "seg", as TASK in a config says, or else the keys that only one task has; "" where none does.

    Raises:
        UserError: no such file, one that is no plain YAML, or of another task.
    """
    path = find_config(config_file, key)
    content = read_file(path)
    if (said := content.get("TASK", "")) not in ("", *IN_WORDS):
        raise UserError(f"TASK is {said} in {path}: want det or seg")
    given, det, seg = set(_names(content)), _known("det"), _known("seg")
    shown = [name for name, own in (("det", det - seg), ("seg", seg - det)) if given & own]
    return said or (shown[0] if len(shown) == 1 else "")


@cache
def _known(task: str) -> frozenset[str]:
    return frozenset(_names(defaults(task)))


def _names(node: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of keys and groups."""
    for key, value in node.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _names(value, f"{prefix}{key}.")
