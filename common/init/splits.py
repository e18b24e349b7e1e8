"""Which split a file or folder belongs to by its name, and which splits are trained and evaluated on."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

TRAIN, VAL, TEST = "train", "val", "test"
WORDS = {
    TRAIN: ("train", "training", "trn"),
    VAL: ("val", "valid", "validation", "dev"),
    TEST: ("test", "testing"),
}
SHARE = 5  # one image of so many is set aside for the evaluation where no split is meant for it


def split_of(path: Path | str) -> str:
    """Return TRAIN, VAL or TEST as a relative path says, its last part first; "" if it does not.

    Words count, as in instances_train2017.json, not parts of words, as in trainer.
    """
    for part in reversed(Path(path).parts):
        words = re.findall("[a-z]+", part.lower())
        for split, names in WORDS.items():
            if set(words) & set(names):
                return split
    return ""


@dataclass(frozen=True)
class Sides:
    """What DATASETS.TRAIN and DATASETS.TEST name.

    Args:
        train, test: the data set of each, perhaps a part of it.
        images: how many there are to train on.
        comment: why, for the config.
    """

    train: str
    test: str
    images: int
    comment: str


def sides(names: Mapping[str, str], images: Mapping[str, int]) -> Sides:
    """Choose what is trained and evaluated on: without a split val the last fifth of train is set aside.

    Args:
        names: of the data sets, by split.
        images: how many each has.
    """
    split = TRAIN if TRAIN in names else next(iter(names))
    train, count = names[split], images[split]
    left = f"; {names[TEST]} is left for the end" if TEST in names and split != TEST else ""
    if VAL in names and split != VAL:
        return Sides(train, names[VAL], count, f"TEST is evaluated on the way, and chooses the best checkpoint{left}")
    kept = max(1, count - max(1, count // SHARE))
    comment = f"there is no split val: the last {count - kept} of {count} images are taken for it{left}"
    return Sides(f"{train}[:{kept}]", f"{train}[{kept}:]", kept, comment)
