"""Relative paths in a config: from the folder of the config that names them, else from the current folder.

Paths on the command line are from the current folder.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from densedist.common.data.sides import SIDES

KEYS = ("MODEL.WEIGHTS", "DATASETS.ROOT", "DISTILL.TEACHER.CONFIG_FILE", "DISTILL.TEACHER.WEIGHTS")
MORE = "DISTILL.TEACHER.MORE"  # groups with the keys of DISTILL.TEACHER
# The items that are paths in an entry of a key of DATASETS, [name, where …]; an item may be a list of them.
ITEMS = {"COCO_FORMAT": (1, 2), "YOLO_FORMAT": (1,), "VOC_FORMAT": (1, 3), "ADE20K_FORMAT": (1,), "FOLDERS": (1, 2)}
NO_PATHS = ("", "digits", "average")  # values of such keys that are none: data and a teacher made on the spot

# Where a path stands: the group or list that holds it, its name or number there, and its key for messages.
Place = tuple[Any, Any, str]


def from_folder(name: str, folder: Path) -> str:
    """Return a relative path as an absolute one if it leads somewhere from a folder; anything else as it is."""
    if folder.absolute() == Path.cwd() or not is_relative(name) or not (folder / name).exists():
        return name
    return str((folder / name).absolute())


def is_relative(name: str) -> bool:
    """Return whether a value is a relative path: no address, and nothing of NO_PATHS."""
    return name not in NO_PATHS and "://" not in name and not name.startswith(("/", "~"))


def resolve(content: dict, folder: Path) -> None:
    """Make the paths in the content of a config absolute that lead somewhere from its folder, in place."""
    for node, name, _ in places(content):
        node[name] = from_folder(node[name], folder)
    for names in (_at(content, f"DATASETS.{side}") for side in SIDES):  # where FOLDER/NAME is a path
        for number, name in enumerate(names if isinstance(names, list) else []):
            parent, slash, last = str(name).rpartition("/")
            if slash and (found := from_folder(parent, folder)) != parent:
                names[number] = f"{found}/{last}"


def places(content: Any) -> Iterator[Place]:
    """Yield where paths stand in the content of a config, a config or plain data."""
    teachers = [("", content), *((MORE, one) for one in _items(_at(content, MORE)))]
    for within, node in teachers:
        for key in KEYS if not within else ("CONFIG_FILE", "WEIGHTS"):
            group, _, last = key.rpartition(".")
            yield from _texts(_at(node, group) if group else node, last, f"{within}.{key}".removeprefix("."))
    for key, items in ITEMS.items():
        for entry in _items(_at(content, f"DATASETS.{key}")):
            for item in items:
                yield from _texts(entry, item, f"DATASETS.{key}, {entry[0]}" if _items(entry) else key)


def _texts(node: Any, name: Any, key: str) -> Iterator[Place]:
    """Yield the text at a place, or the texts of a list there."""
    there = name in node if isinstance(node, dict) else isinstance(node, (list, tuple)) and name < len(node)
    value = node[name] if there else None
    if isinstance(value, str):
        yield node, name, key
    elif isinstance(value, list):
        yield from ((value, number, key) for number, text in enumerate(value) if isinstance(text, str))


def _items(value: Any) -> Sequence[Any]:
    """Return a list; what is none is left to the check of keys."""
    return value if isinstance(value, (list, tuple)) else ()


def _at(content: Any, name: str) -> Any:
    for part in name.split("."):
        content = content.get(part) if isinstance(content, dict) else None
    return content
