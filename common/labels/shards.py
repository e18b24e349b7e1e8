"""What is labeled so far, in shards: each is written whole or not at all, so that a killed job can go on."""

import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.utils import comm

from densedist.common.errors import UserError, on_main_process
from densedist.common.files import write_text
from densedist.common.fingerprint import differences, refuse_another
from densedist.common.labeling import RECORD, Labeling

logger = logging.getLogger(__name__)
FOLDER = "shards"  # in the output folder, until the labels are joined
JOB = "job.json"  # there: what the labels depend on
VERSION = 2  # of both
PAUSE = 0.2  # seconds between two looks at what another process writes


@dataclass(frozen=True)
class Shards:
    """The shards of a labeling.

    A shard is a JSON file of plain data: "images", one entry for each image that could be read, in order; "unreadable",
    [file, reason] of each other one; and "seconds", what the shard took.

    Args:
        folder: their place.
        images: how many are to be labeled.
        size: images of each shard; the last one has the rest.
        missing: numbers of the shards that were not there when this job began.
        least: for each class the score from which on predictions are labels; may be infinite.
        seconds: time that choosing these took.
    """

    folder: Path
    images: int
    size: int
    missing: Sequence[int] = ()
    least: np.ndarray = field(default_factory=lambda: np.zeros(0))
    seconds: float = 0.0

    @property
    def count(self) -> int:
        """Return the number of shards."""
        return -(-self.images // self.size)

    def numbers(self, shard: int) -> range:
        """Return the numbers of a shard's images, from 0."""
        return range(shard * self.size, min((shard + 1) * self.size, self.images))

    def write(self, shard: int, content: Mapping[str, Any]) -> None:
        """Write a shard to a temporary file, and rename it.

        Raises:
            UserError: the disk is full, or not to be written; all other shards are as they were.
        """
        with kept(self.folder.parent):
            write_text(self._file(shard), json.dumps(content) + "\n")

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield the shards in order; all are there."""
        for shard in range(self.count):
            yield json.loads(self._file(shard).read_text())

    def written(self) -> int:
        """Return how many images are in the shards that are there."""
        names = (name.removesuffix(".json") for name in os.listdir(self.folder) if name.endswith(".json"))
        return sum(len(self.numbers(int(name))) for name in names if name.isdigit())

    def wait(self, look: Callable[[], None]) -> None:
        """Wait until other processes have written all shards. This is no barrier, which would end at a time limit.

        Args:
            look: called in between.
        """
        while self.written() < self.images:
            time.sleep(PAUSE)
            look()

    def remove(self) -> None:
        """Remove them, once the labels are joined."""
        shutil.rmtree(self.folder)

    def lacking(self) -> list[int]:
        """Return the shards that are missing, damaged, or have images that could not be read, which may be mended."""
        return [shard for shard in range(self.count) if not self._is_complete(shard)]

    def _is_complete(self, shard: int) -> bool:
        file = self._file(shard)
        try:
            content = json.loads(file.read_text())
            if len(content["images"]) + len(content["unreadable"]) != len(self.numbers(shard)):
                raise ValueError
        except FileNotFoundError:
            return False
        except (ValueError, KeyError, TypeError):
            logger.warning(f"--resume: {file} is damaged: its images are labeled again")
        else:
            if not content["unreadable"]:
                return True
        file.unlink()
        return False

    def _file(self, shard: int) -> Path:
        return self.folder / f"{shard:05}.json"


@contextmanager
def kept(output: Path) -> Iterator[None]:
    """Say of a disk that is full, within a block, how to go on.

    Args:
        output: the folder of the labels.

    Raises:
        UserError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f"--output-dir: cannot write to {output}: {error.strerror}: mend that, and --resume goes on"
        ) from error


def begin(labeling: Labeling, choose: Callable[[], np.ndarray]) -> Shards:
    """Make the output folder and choose scores, or go on with the job that is there; all processes call it.

    Args:
        choose: returns for each class the score from which on predictions are labels; called where they are not known.

    Raises:
        UserError: a folder that has files; an unfinished job without labeling.resume, or one of other settings.
    """
    folder = labeling.output / FOLDER
    found: list[Shards] = []

    def check() -> None:
        if (folder / JOB).is_file():
            found.append(_unfinished(labeling, folder))
            return
        labeling.begin()
        shards = Shards(folder, len(labeling.images), labeling.shard)
        found.append(replace(shards, missing=range(shards.count)))

    on_main_process(check)
    missing: Sequence[int] = comm.all_gather(found[0].missing if found else ())[0]
    if comm.is_main_process() and not (folder / JOB).is_file():
        start = time.perf_counter()
        least = choose().tolist()
        about = {"version": VERSION, "settings": dict(labeling.settings), "images": len(labeling.images)}
        about |= {"shard": labeling.shard, "least": least, "seconds": time.perf_counter() - start}
        with kept(labeling.output):
            folder.mkdir()
            write_text(folder / JOB, json.dumps(about) + "\n")
    if not comm.is_main_process() and not missing[comm.get_rank() :: comm.get_world_size()]:
        return Shards(folder, len(labeling.images), labeling.shard)  # nothing is left for this process
    while not (folder / JOB).is_file():
        time.sleep(PAUSE)
    return replace(_read(folder), missing=missing)


def is_finished(labeling: Labeling) -> bool:
    """Return whether the output folder has all labels.

    Raises:
        UserError: they are of other settings.
    """
    record = labeling.output / RECORD
    if not record.is_file():
        return False
    refuse_another(str(labeling.output), json.loads(record.read_text()).get("settings"), dict(labeling.settings), {})
    shutil.rmtree(labeling.output / FOLDER, ignore_errors=True)  # where the end was cut off
    return True


def goes_on(labeling: Labeling) -> bool:
    """Return whether the output folder has an unfinished job of the same settings."""
    try:
        record = json.loads((labeling.output / FOLDER / JOB).read_text())
        same = not differences(record["settings"], dict(labeling.settings))
        return bool(same and record["version"] == VERSION and record["images"] == len(labeling.images))
    except (OSError, ValueError, KeyError):
        return False


def _unfinished(labeling: Labeling, folder: Path) -> Shards:
    """Return the shards of a job that has not ended, and what is missing."""
    if not labeling.resume:
        raise UserError(
            f"--output-dir: {labeling.output} has an unfinished labeling: say --resume to go on with it, or name an "
            "empty or new folder"
        )
    try:
        record = json.loads((folder / JOB).read_text())
        shards = _read(folder)
    except (ValueError, KeyError) as error:
        raise UserError(f"--resume: {folder / JOB} is damaged: name an empty or new folder") from error
    if record["version"] != VERSION:
        raise UserError(f"--resume: {labeling.output} was begun by another version: name an empty or new folder")
    refuse_another(str(labeling.output), record["settings"], dict(labeling.settings), {})
    if shards.images != len(labeling.images):
        raise UserError(
            f"{labeling.output} has other settings: {shards.images} images, now {len(labeling.images)}: give the "
            "same, or another --output-dir"
        )
    return replace(shards, missing=shards.lacking())


def _read(folder: Path) -> Shards:
    record = json.loads((folder / JOB).read_text())
    least = np.array(record["least"], np.float64)
    return Shards(folder, record["images"], record["shard"], (), least, record["seconds"])
