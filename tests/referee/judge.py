"""What both tasks' judges share: a situation is written, handed over, and the verdict is that it is read or refused."""

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from densedist.common.errors import UserError
from referee.damage import DET_DAMAGES
from referee.scenes import World, draw
from referee.situations import Form, Handed, Situation, folder

Judge = Callable[[Path, Handed, World, Situation], None]


class RefusedError(Exception):
    """The suite has said in one line what is wrong, before training."""


@dataclass(frozen=True)
class Verdict:
    """Whether the data was read, equal to the truth; else the line by which it was refused."""

    read: bool
    line: str = ""


def judge(situation: Situation, forms: Mapping[str, Form], look: Judge) -> Verdict:
    """Read as the truth, or refused.

    Args:
        look: reads what a config names, and compares it with the truth; raises RefusedError.

    Raises:
        AssertionError: a difference, a line that is none, a refusal without a reason, or one that changes files.
    """
    form = forms[situation.form]
    choices = situation.choices(form)
    with folder() as where, quiet():
        root = Path(where, choices["place"])
        if choices["before"] == "other data":
            other = draw(situation.seed + 1000, **form.drawn)
            look(root.parent / "before", form.write(other, _empty(root), form.usual()), other, Situation(form.name))
        world = situation.scenes(form)
        handed = form.write(world, _empty(root), choices)
        if situation.damage and not DET_DAMAGES[situation.damage].spoil(root, handed, situation.seed):
            situation = Situation(**{**vars(situation), "damage": ""})  # nothing of that kind is there
        before = _contents(root)
        try:
            look(root.parent / "run", handed, world, situation)
        except RefusedError as refusal:
            line = str(refusal)
            assert line.strip(), "refused without a word"
            assert "\n" not in line, f"more than one line: {line}"
            assert len(line) < 1000, f"a line of {len(line)} letters: {line}"
            assert not situation.must_be_read(form), f"refused without a reason: {line}"
            verdict = Verdict(False, line)
        else:
            lost = situation.damage and DET_DAMAGES[situation.damage].lost
            assert not lost, f"read, though {situation.damage} leaves nothing to tell the truth by"
            verdict = Verdict(True)
        assert _contents(root) == before, "the user's files are others now"
    return verdict


@contextmanager
def refusing() -> Iterator[None]:
    """Within the block a UserError is a refusal; behind it, one comes too late and is a failure."""
    try:
        yield
    except UserError as error:
        raise RefusedError(str(error)) from error


def write_config(file: Path, *parts: Mapping[str, Any]) -> str:
    """A config file with the sections of all parts; its path."""
    content: dict[str, Any] = {}
    for part in parts:
        for section, values in part.items():
            content[section] = {**content.get(section, {}), **values} if isinstance(values, Mapping) else values
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    return str(file)


def scene_of(image: np.ndarray, handed: Handed) -> int:
    """Which scene has these pixels (H, W, 3), RGB.

    Raises:
        AssertionError: none has them, within handed.level.
    """
    for number, wanted in enumerate(handed.images):
        if wanted.shape == image.shape and np.abs(wanted.astype(int) - image.astype(int)).max() <= handed.level:
            return number
    near = {
        n: np.abs(w.astype(int) - image.astype(int)).max()
        for n, w in enumerate(handed.images)
        if w.shape == image.shape
    }
    raise AssertionError(f"pixels that are of no image: {image.shape}; levels that they are off, by scene: {near}")


def close(found: float, wanted: float) -> bool:
    """Of percentages; both may be undefined."""
    return bool(np.isclose(found, wanted, atol=1e-6, equal_nan=True))


@contextmanager
def quiet() -> Iterator[None]:
    """The suite's log says much about every data set, and OpenCV's about every damaged file."""
    before, level = logging.root.manager.disable, cv2.utils.logging.getLogLevel()
    logging.disable(logging.CRITICAL)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.disable(before)
        cv2.utils.logging.setLogLevel(level)


def _empty(root: Path) -> Path:
    for file in sorted(root.rglob("*"), reverse=True) if root.is_dir() else []:
        file.rmdir() if file.is_dir() else file.unlink()
    root.mkdir(parents=True, exist_ok=True)
    return root


def _contents(root: Path) -> dict[str, str]:
    files = (file for file in root.rglob("*") if file.is_file())
    return {str(file): hashlib.sha1(file.read_bytes()).hexdigest() for file in files}
