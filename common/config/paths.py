"""Relative paths in a config: from the folder of the config that names them, else from the current folder.

Paths on the command line are from the current folder, and so are those in the config.yaml that a run wrote.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from densedist.common.data.sides import SIDES
from densedist.common.run_names import CONFIG, FINAL, LAST, LOG, METRICS

KEYS = ("MODEL.WEIGHTS", "DATASETS.ROOT", "DISTILL.TEACHER.CONFIG_FILE", "DISTILL.TEACHER.WEIGHTS")
MORE = "DISTILL.TEACHER.MORE"  # groups with the keys of DISTILL.TEACHER
# The items that are paths in an entry of a key of DATASETS, [name, where …]; an item may be a list of them.
ITEMS = {"COCO_FORMAT": (1, 2), "YOLO_FORMAT": (1,), "VOC_FORMAT": (1, 3), "ADE20K_FORMAT": (1,), "FOLDERS": (1, 2)}
NO_PATHS = ("", "digits", "average")  # values of such keys that are none: data and a teacher made on the spot
FOLDER_SIDES = ("PSEUDO_LABELED", "UNLABELED")  # where the name of a data set may be a folder's
SPLITS = "leftImg8bit"  # of ROOT: its folders are the splits
PART = re.compile(r"\[\d*:\d*\]$")  # of a data set

# Where a path stands: the group or list that holds it, its name or number there, and its key for messages.
Place = tuple[Any, Any, str]


def from_folder(name: str, folder: Path) -> str:
    """Return a relative path as an absolute one if it leads somewhere from a folder; anything else as it is."""
    if not is_relative(name) or not (folder / name).exists():
        return name
    return str((folder / name).absolute())


def is_relative(name: str) -> bool:
    """Return whether a value is a relative path: no address, and nothing of NO_PATHS."""
    return name not in NO_PATHS and "://" not in name and not name.startswith(("/", "~"))


def is_of_run(config: Path) -> bool:
    """Return whether a config is what a run wrote: a config.yaml with a run's other files in its folder."""
    return config.name == CONFIG and any((config.parent / name).is_file() for name in (FINAL, LAST, METRICS, LOG))


def resolve(content: dict, folder: Path) -> None:
    """Make the paths in the content of a config absolute that lead somewhere from its folder, in place.

    Names of data sets that the content declares, and of splits of its ROOT, stay.
    """
    for node, name, _ in places(content):
        node[name] = from_folder(node[name], folder)
    declared = {str(entry[0]) for key in ITEMS for entry in _items(_at(content, f"DATASETS.{key}")) if _items(entry)}
    for side, node, number in _names(content):
        name = str(node[number])
        whole = PART.sub("", name)
        parent, slash, _ = whole.rpartition("/")
        is_folder = side in FOLDER_SIDES and (folder / whole).is_dir() and not _is_split(content, whole)
        if whole not in declared and (slash or is_folder):
            path = parent if slash else whole
            node[number] = from_folder(path, folder) + name[len(path) :]


def _names(content: dict) -> Iterator[tuple[str, list, int]]:
    """Yield where names of data sets stand, with the side; TRAIN_REPEAT_FACTOR repeats those of TRAIN."""
    for side in SIDES:
        names = _at(content, f"DATASETS.{side}")
        yield from ((side, names, number) for number in range(len(names) if isinstance(names, list) else 0))
    factors = _items(_at(content, "DATASETS.TRAIN_REPEAT_FACTOR"))
    yield from (("TRAIN", pair, 0) for pair in factors if isinstance(pair, list) and pair)


def _is_split(content: dict, name: str) -> bool:
    root = _at(content, "DATASETS.ROOT")
    return root == "digits" or (isinstance(root, str) and Path(root).expanduser().joinpath(SPLITS, name).is_dir())


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
