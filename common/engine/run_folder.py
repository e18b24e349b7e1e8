"""OUTPUT_DIR as the record of one run: checkpoints, metrics and results."""

import errno
import json
import logging
import math
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm
from torch import nn

from densedist.common.engine.checkpoint import CompleteCheckpointer
from densedist.common.errors import UserError, on_main_process
from densedist.common.files import write_atomic, write_text
from densedist.common.locks import claimed
from densedist.common.run_files import LAST, METRICS, checkpoints, numbered

logger = logging.getLogger(__name__)


@contextmanager
def claimed_by_all(output_dir: str | Path, key: str = "OUTPUT_DIR") -> Iterator[None]:
    """Hold an output folder for the processes of this run, for a block; the main one has the lock.

    Args:
        key: what names the folder, for messages.

    Raises:
        UserError: a process of another run writes to it, or it cannot be made.
    """
    with ExitStack() as held:

        def claim() -> None:
            held.enter_context(claimed(Path(output_dir), key))

        on_main_process(claim)
        yield


class RunCheckpointer(CompleteCheckpointer):
    """Writes the run's checkpoints atomically, keeps the last few, and goes on from the last good one.

    Args:
        model: a checkpoint's "model", what users get.
        output_dir: OUTPUT_DIR.
        keep: how many of the numbered checkpoints stay; 0 = all.
        parts: what else a checkpoint holds, by name.
    """

    def __init__(self, model: nn.Module, output_dir: str, keep: int = 0, **parts: Any) -> None:
        super().__init__(model, output_dir, "--resume", **parts)
        self._keep = keep

    def save(self, name: str, **extra: Any) -> None:
        """Write name.pth as the last checkpoint, from the main process.

        Raises:
            UserError: the disk is full, or not to be written; all earlier checkpoints are as they were.
        """
        if self.save_to_disk:
            output = Path(self.save_dir)
            save_checkpoint(output / f"{name}.pth", self, **extra)
            self.tag_last_checkpoint(f"{name}.pth")
            for old in numbered(output)[: -self._keep] if self._keep else []:
                old.unlink()

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        write_text(Path(self.save_dir, LAST), last_filename_basename)

    def resume(self) -> int:
        """Load the last checkpoint that is whole, if there is one.

        Returns:
            the iteration to go on with, 0 without a checkpoint.

        Raises:
            UserError: all of them are damaged, or of another model.
        """
        path = comm.all_gather(self._last_good() if comm.is_main_process() else None)[0]
        return 0 if path is None else self.load(path)["iteration"] + 1

    def _last_good(self) -> str | None:
        files = checkpoints(Path(self.save_dir))
        for file in files:
            if reason := damage(file):
                logger.warning(f"{file} is damaged ({reason}): trying the checkpoint before it")
            else:
                return str(file)
        if files:
            raise UserError(f"--resume: all checkpoints in {self.save_dir} are damaged: start again in another folder")
        return None


def save_checkpoint(path: Path, checkpointer: CompleteCheckpointer, **extra: Any) -> None:
    """Write the model and the parts of a checkpointer, and extra, to path.

    Raises:
        UserError: a full disk, say; what was there before is as it was.
    """
    logger.info(f"Saving checkpoint to {path}")
    parts = {name: part.state_dict() for name, part in checkpointer.checkpointables.items()}
    data = {"model": checkpointer.model.state_dict(), **parts, **extra}
    try:
        write_atomic(path, lambda file: torch.save(data, file))
    except (OSError, RuntimeError) as error:
        # PyTorch says "file write failed" for what it was that the file said.
        cause = error if isinstance(error, OSError) else error.__context__
        full = isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full" if full else str(cause or error).splitlines()[0]
        raise UserError(
            f"{path} cannot be written: {reason}; earlier checkpoints are intact, and --resume uses them"
        ) from error


def damage(file: Path) -> str | None:
    """Return what is wrong with a checkpoint by its check sums; None if nothing is."""
    try:
        with zipfile.ZipFile(file) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, OSError) as error:
        return str(error)
    return f"bad check sum of {broken}" if broken else None


def rewind_metrics(output_dir: str, iteration: int) -> None:
    """Drop the lines of metrics.json from iteration on, which a resumed run will write again."""
    file = Path(output_dir, METRICS)
    if file.is_file():
        kept = [line for line in file.read_text().splitlines() if _iteration(line) < iteration]
        write_text(file, "".join(f"{line}\n" for line in kept))


def write_results(cfg: CfgNode, results: Mapping[str, Any]) -> None:
    """Write OUTPUT_DIR/results.json from the main process; what is undefined (NaN) becomes null."""
    if comm.is_main_process():
        text = json.dumps(_without_nan(results), indent=2)
        write_text(Path(cfg.OUTPUT_DIR, "results.json"), text + "\n")


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if math.isnan(value) else float(value)


def _iteration(line: str) -> float:
    """Return the iteration of a line of metrics.json; infinite for a line that was cut off."""
    try:
        return json.loads(line)["iteration"]
    except (ValueError, KeyError):
        return float("inf")
