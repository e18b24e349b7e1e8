"""Files of a run: weights that others use, the config that describes them, and checkpoints that it goes on from."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from densedist.common.config.files import find_config, read_alone
from densedist.common.errors import UserError
from densedist.common.nearest import MOST, did_you_mean, did_you_mean_path, nearest
from densedist.common.run_names import BEST as BEST
from densedist.common.run_names import CONFIG as CONFIG
from densedist.common.run_names import FINAL as FINAL
from densedist.common.run_names import LAST as LAST
from densedist.common.run_names import METRICS as METRICS
from densedist.common.run_names import REPORT as REPORT
from densedist.common.shell import command


@dataclass(frozen=True)
class Weights:
    """Trained weights.

    Args:
        file: a checkpoint, or a folder of SMP's save_pretrained.
        config: the config that says what they are.
        trusted: the user named that config; False for one that was found with the weights (common/config/trust.py).
        key: what names the weights, for messages.
        overrides: KEY VALUE … for the config.
    """

    file: str
    config: str
    trusted: bool
    key: str = "--weights"
    overrides: Sequence[str] = ()

    def under(self, *overrides: str) -> "Weights":
        """Return the same with overrides that have the last word."""
        return replace(self, overrides=[*self.overrides, *overrides])


def config_beside(weights: str) -> Path | None:
    """Return the config.yaml in a folder of weights, or in the folder of a file of weights; None if there is none."""
    path = Path(weights)
    places = (path / CONFIG, path.parent / CONFIG) if weights and path.exists() else ()
    return next((file for file in places if file.is_file()), None)


def locate(weights: str, config_file: str = "", key: str = "--weights") -> Weights:
    """Find trained weights and their config.

    Args:
        weights: a checkpoint, or the OUTPUT_DIR of a finished run.
        config_file: another config than the one in the weights' folder: a path or a name (see find_config).
        key: what names the weights, for messages.

    Raises:
        UserError: neither is there.
    """
    path = Path(weights)
    if path.is_dir() and (path / CONFIG).is_file():
        path = path / FINAL
        if not path.is_file():
            remedy = f"end it with `{_continue(path.parent)}`, or name a checkpoint that it has"
            raise UserError(f"{key}: there is no {path}, as the run has not ended: {remedy}")
    elif not path.exists():
        raise UserError(f"{key}: there is no file {weights}{did_you_mean_path(weights)}")
    if config_file:
        return Weights(str(path), find_config(config_file, "--config-file"), True, key)
    if (config := config_beside(weights)) is None:
        hint = "name its config with --config-file" if key == "--weights" else "put its config there"
        raise UserError(f"{key}: there is no {CONFIG} next to {weights}: {hint}")
    return Weights(str(path), str(config), False, key)


def _continue(folder: Path) -> str:
    """Return the command that continues the run of a folder, which may have been moved."""
    config = folder / CONFIG
    moved = Path(str(read_alone(str(config)).get("OUTPUT_DIR", folder))).resolve() != folder.resolve()
    return command("train", "--config-file", str(config), "--resume", *(["OUTPUT_DIR", str(folder)] if moved else []))


def has_checkpoints(output_dir: str) -> bool:
    """Return whether a run has left checkpoints in output_dir, of which its config.yaml says what they are."""
    return bool(checkpoints(Path(output_dir)))


def holds_run(output: Path) -> bool:
    """Return whether a folder has a run that --resume would go on with."""
    metrics = output / METRICS
    # A file without a line is of a run that did not come to its first one: nothing to go on with, nothing to lose.
    return bool(checkpoints(output)) or (metrics.is_file() and metrics.stat().st_size > 0)


def is_finished(output_dir: str) -> bool:
    """Return whether a run has come to its end in output_dir: its report is younger than its final checkpoint, which
    is its last one."""
    final, page, last = (Path(output_dir, name) for name in (FINAL, REPORT, LAST))
    if not all(file.is_file() for file in (final, page, last)):
        return False
    return last.read_text().strip() == FINAL and page.stat().st_mtime_ns >= final.stat().st_mtime_ns


def did_you_mean_run(output_dir: str) -> str:
    """Return a question for the folder with checkpoints that is most like one without; "" for none."""
    parent = Path(output_dir).parent
    try:
        place = nearest(parent) or parent
        there = [folder for folder in islice(place.iterdir(), MOST) if checkpoints(folder)]
    except OSError:  # no folder, or one that may not be read
        return ""
    return did_you_mean(output_dir, map(str, there), most=1)


def refuse_existing_run(output_dir: str) -> None:
    """Make sure that a run that starts anew does not mix its files with those of another one.

    Raises:
        UserError: there is a run in output_dir.
    """
    if holds_run(Path(output_dir)):
        raise UserError(
            f"OUTPUT_DIR: {output_dir} holds a run: give --resume to continue it, name another "
            "OUTPUT_DIR, or remove the folder"
        )


def checkpoints(output: Path) -> list[Path]:
    """Return the run's checkpoints, the last one first."""
    files = [output / FINAL, *reversed(numbered(output))]
    if (output / LAST).is_file():
        files.insert(0, output / Path((output / LAST).read_text().strip()).name)  # in this folder, whatever it says
    return list(dict.fromkeys(file for file in files if file.is_file()))


def numbered(output: Path) -> list[Path]:
    """Return the files model_<iteration>.pth, in order."""
    return sorted(file for file in output.glob("model_*.pth") if re.fullmatch(r"model_\d{7,}", file.stem))
