"""OUTPUT_DIR as the record of one run: claimed by it, its checkpoints whole, the last good one found again."""

import errno
import json
import logging
import math
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import nn

from densedist.common.engine.checkpoint import CompleteCheckpointer
from densedist.common.errors import UserError
from densedist.common.engine.preemption import Preemption
from densedist.common.files import write_whole

logger = logging.getLogger(__name__)
LAST = "last_checkpoint"


def claim(output_dir: str, resume: bool) -> None:
    """Make sure that a training that starts anew does not mix its files with those of another run.

    Raises:
        UserError: there is a run in output_dir, and it is not to be resumed.
    """
    output = Path(output_dir)
    if not resume and (_checkpoints(output) or (output / "metrics.json").is_file()):
        raise UserError(f"OUTPUT_DIR: {output} holds a run: give --resume to go on with it, or another OUTPUT_DIR")


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
            save_whole(output / f"{name}.pth", self, **extra)
            self.tag_last_checkpoint(f"{name}.pth")
            for old in _numbered(output)[: -self._keep] if self._keep else []:
                old.unlink()

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        write_whole(Path(self.save_dir, LAST), lambda file: file.write(last_filename_basename.encode()))

    def resume(self) -> int:
        """Load the last checkpoint that is whole, if there is one.

        Returns:
            the iteration to go on with, 0 without a checkpoint.

        Raises:
            UserError: all of them are damaged, or of another model.
        """
        path = comm.all_gather(self._last_good() if comm.is_main_process() else None)[0]
        if path is None:
            return 0
        return self.load(path)["iteration"] + 1

    def _last_good(self) -> str | None:
        files = _checkpoints(Path(self.save_dir))
        for file in files:
            if reason := _damage(file):
                logger.warning(f"{file} is damaged ({reason}): trying the checkpoint before it")
            else:
                return str(file)
        if files:
            raise UserError(f"--resume: all checkpoints in {self.save_dir} are damaged: start anew in another folder")
        return None


class SaveCheckpoints(HookBase):
    """Saves every SOLVER.CHECKPOINT_PERIOD iterations, before each evaluation, at the end, and on preemption.

    It ends a preempted run. All processes have it.
    """

    def __init__(self, checkpointer: RunCheckpointer, cfg: CfgNode, preemption: Preemption) -> None:
        self._checkpointer, self._preemption = checkpointer, preemption
        self._periods = [period for period in (cfg.SOLVER.CHECKPOINT_PERIOD, cfg.TEST.EVAL_PERIOD) if period > 0]

    def after_step(self) -> None:
        done, preempted = self.trainer.iter + 1, self._preemption.agreed()
        final = done == self.trainer.max_iter
        if final or preempted or any(done % period == 0 for period in self._periods):
            name = "model_final" if final else f"model_{self.trainer.iter:07}"
            self._checkpointer.save(name, iteration=self.trainer.iter)
        if preempted:
            comm.synchronize()  # nobody leaves while the main process writes
            self._preemption.leave()


class KeepBest(HookBase):
    """Keeps the student with the highest metric so far in model_best.pth, across --resume.

    Runs after the hook that evaluates, on the main process.

    Args:
        checkpointer: what is saved.
        metric: its name among the logged scalars, e.g. "bbox/AP".
    """

    def __init__(self, checkpointer: CompleteCheckpointer, metric: str) -> None:
        self._checkpointer = checkpointer
        self._file = Path(checkpointer.save_dir) / "model_best.pth"
        self._metric = metric
        self._best = -math.inf

    def before_train(self) -> None:
        if self.trainer.start_iter > 0 and self._file.is_file() and not _damage(self._file):
            self._best = torch.load(self._file, weights_only=True)["metric"][self._metric]
        self.after_step()  # an evaluation that was cut short has just been repeated

    def after_step(self) -> None:
        value, iteration = self.trainer.storage.latest().get(self._metric, (-math.inf, -1))
        if iteration == self.trainer.iter and value > self._best:
            self._best = value
            save_whole(self._file, self._checkpointer, metric={self._metric: value}, iteration=iteration)

    def after_train(self) -> None:
        self.after_step()  # the last evaluation comes after the last step


def save_whole(path: Path, checkpointer: CompleteCheckpointer, **extra: Any) -> None:
    """Write the model and the parts of a checkpointer, and extra, to path.

    Raises:
        UserError: a full disk, say; what was there before is as it was.
    """
    logger.info(f"Saving checkpoint to {path}")
    parts = {name: part.state_dict() for name, part in checkpointer.checkpointables.items()}
    data = {"model": checkpointer.model.state_dict(), **parts, **extra}
    try:
        write_whole(path, lambda file: torch.save(data, file))
    except (OSError, RuntimeError) as error:
        # PyTorch says "file write failed" for what it was that the file said.
        cause = error if isinstance(error, OSError) else error.__context__
        full = isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full" if full else str(cause or error).splitlines()[0]
        raise UserError(
            f"{path} cannot be written: {reason}; earlier checkpoints are whole, --resume uses them"
        ) from error


def rewind_metrics(output_dir: str, iteration: int) -> None:
    """Drop the lines of metrics.json that a resumed run is going to write again, from iteration on."""
    file = Path(output_dir, "metrics.json")
    if file.is_file():
        kept = [line for line in file.read_text().splitlines() if _iteration(line) < iteration]
        write_whole(file, lambda f: f.write("".join(f"{line}\n" for line in kept).encode()))


def _iteration(line: str) -> float:
    """Of a line of metrics.json; infinite for one that was cut off."""
    try:
        return json.loads(line)["iteration"]
    except (ValueError, KeyError):
        return float("inf")


def _checkpoints(output: Path) -> list[Path]:
    """The run's checkpoints, the last one first."""
    files = [*(output / name for name in ("model_final.pth",)), *reversed(_numbered(output))]
    if (output / LAST).is_file():
        files.insert(0, output / (output / LAST).read_text().strip())
    return list(dict.fromkeys(file for file in files if file.is_file()))


def _numbered(output: Path) -> list[Path]:
    """model_<iteration>.pth, in order."""
    return sorted(file for file in output.glob("model_*.pth") if re.fullmatch(r"model_\d{7,}", file.stem))


def _damage(file: Path) -> str | None:
    """What is wrong with the file, from the check sums that it carries; None if nothing is."""
    try:
        with zipfile.ZipFile(file) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, OSError) as error:
        return str(error)
    return f"bad check sum of {broken}" if broken else None
