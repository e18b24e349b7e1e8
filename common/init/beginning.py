"""What is found in a folder of data, and written for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

BASE, TEACHER, STUDENT = "base.yaml", "teacher.yaml", "student.yaml"


@dataclass(frozen=True)
class Beginning:
    """The data sets that lie in a folder, and configs that train on them.

    Args:
        form: the format of the data in words, as "YOLO's format".
        images: number of images of each split with labels, by its name in the data.
        classes: the names of the classes.
        configs: the texts of BASE, TEACHER and STUDENT.
        files: all images and label images that the data sets consist of.
        notes: what is not recognized, or was guessed, each in one line with what to do about it.
    """

    form: str
    images: Mapping[str, int]
    classes: Sequence[str]
    configs: Mapping[str, str]
    files: frozenset[Path]
    notes: Sequence[str] = ()
