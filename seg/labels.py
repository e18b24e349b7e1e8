"""What the numbers in a label image mean."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from detectron2.config import CfgNode

from densedist.common.errors import UserError

IGNORE = 255  # trainId of pixels that do not count
UNKNOWN = 254  # trainId of labelIds that the config does not name
UNNAMED = "which the config does not name: add them to DATASETS.CLASSES or DATASETS.IGNORED_IDS"


class Classes:
    """The classes of a data set, in the order of their trainIds.

    Args:
        classes: {"name": str, "ids": [labelId, …], "color": [r, g, b]} each.
        ignored_ids: labelIds that may occur and do not count.
        ignored_colors: [r, g, b] likewise, in labels that have colors.

    Raises:
        UserError: an entry of another form, or a labelId that is given twice.
    """

    def __init__(self, classes: Sequence[Any], ignored_ids: Sequence[int], ignored_colors: Sequence[Any] = ()) -> None:
        if not classes:
            raise UserError("DATASETS.CLASSES is empty: name the classes, e.g. by _BASE_ on a file of configs/seg/data")
        if len(classes) > UNKNOWN:
            raise UserError(f"DATASETS.CLASSES has {len(classes)} classes: want {UNKNOWN} at most")
        for entry in classes:
            _check(entry)
        if not all(_is_byte(i) for i in ignored_ids):
            raise UserError(f"DATASETS.IGNORED_IDS: {list(ignored_ids)} are not numbers from 0 to 255")
        self.names = [str(entry["name"]) for entry in classes]
        if twins := [name for name, count in Counter(self.names).items() if count > 1]:
            raise UserError(f"DATASETS.CLASSES: two classes are named {twins[0]}: give each its own name")
        self.colors = np.array([entry["color"] for entry in classes], np.uint8)
        if not all(isinstance(c, (list, tuple)) and len(c) == 3 and all(map(_is_byte, c)) for c in ignored_colors):
            raise UserError(f"DATASETS.IGNORED_COLORS: {list(ignored_colors)}: want three numbers from 0 to 255 each")
        self.ignored_colors = np.array(ignored_colors, np.uint8).reshape(-1, 3)
        # A class may join several labelIds; the first stands for it in predictions.
        self.label_ids = np.array([entry["ids"][0] for entry in classes], np.uint8)
        self.train_ids = np.full(256, UNKNOWN, np.uint8)
        meant = [(i, number) for number, entry in enumerate(classes) for i in entry["ids"]]
        for label_id, train_id in [*meant, *((i, IGNORE) for i in ignored_ids)]:
            if self.train_ids[label_id] not in (UNKNOWN, train_id):
                raise UserError(f"DATASETS.CLASSES, IGNORED_IDS: labelId {label_id} is given two meanings")
            self.train_ids[label_id] = train_id

    @classmethod
    def of(cls, cfg: CfgNode) -> "Classes":
        return cls(cfg.DATASETS.CLASSES, cfg.DATASETS.IGNORED_IDS, cfg.DATASETS.IGNORED_COLORS)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def meaning(self) -> str:
        """Return all that the numbers and colors of a label mean, as text."""
        tables = self.label_ids, self.train_ids, self.colors, self.ignored_colors
        return str([self.names, *(table.tolist() for table in tables)])


def _is_byte(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 255


def _check(entry: Any) -> None:
    form = "{name: …, ids: [labelId, …], color: [r, g, b]}"
    if not isinstance(entry, dict) or set(entry) != {"name", "ids", "color"}:
        raise UserError(f"DATASETS.CLASSES: {entry} is not {form}")
    ids, color = entry["ids"], entry["color"]
    if not (isinstance(ids, list) and ids and all(map(_is_byte, ids))):
        raise UserError(f"DATASETS.CLASSES: ids of {entry['name']} are {ids}: want numbers from 0 to 255")
    if not (isinstance(color, list) and len(color) == 3 and all(map(_is_byte, color))):
        raise UserError(f"DATASETS.CLASSES: color of {entry['name']} is {color}: want three numbers from 0 to 255")
