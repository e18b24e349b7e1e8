"""What `densedist label` says at its end: the page to look at, and what trains a student on the labels."""

from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from densedist.common.distill.registry import LOSSES, is_on
from densedist.common.labels.few import remarks
from densedist.common.labels.sheet import FILE
from densedist.common.run_files import holds_run
from densedist.common.shell import command, from_here, quoted

WITHOUT = "every distillation loss is off, so the teacher is not loaded"


def last_lines(output: Path, record: Mapping[str, Any], start: Sequence[str]) -> list[str]:
    """Return the lines that name the page, what to know of the labels, and what comes next.

    Args:
        output: the folder of the labels.
        record: what labels.json holds.
        start: of a known student the words of the command that trains it, else the keys for the command of any.
    """
    start = [from_here(word) for word in start]
    page = output / FILE
    lines = [*([f"page     {page}"] if page.is_file() else []), *remarks(record)]
    if not any(known["labels"] for known in record["classes"].values()):
        return lines
    if start[0] == "train":
        return [*lines, f"To train the student on its data and these labels ({WITHOUT}):", command(*start)]
    to_add = f"add these keys to its `{command('train')}` command:"
    return [*lines, f"To train a student on its data and these labels, without a teacher, {to_add}", quoted(start)]


def keys_of_any(labels: Sequence[str], output: Path) -> list[str]:
    """Return the keys that train a student of which nothing is known.

    Args:
        labels: the keys that name the labels in a folder.
        output: that folder.
    """
    without = [word for name in ("WEIGHTS", "CONFIG_FILE") for word in (f"DISTILL.TEACHER.{name}", "")]
    return [*labels, *without, "OUTPUT_DIR", unused(f"{output}_student")]


def keys_of_student(cfg: CfgNode, labels: Sequence[str], output: Path, overrides: Sequence[str] = ()) -> list[str]:
    """Return the keys that train a student on labels, without distillation, and into a folder of their own.

    Its teacher stays in the config, where nothing loads it.

    Args:
        cfg: the student's.
        labels: the keys that name the labels in a folder.
        output: that folder, whose name the other one gets, too.
        overrides: what the config was read with; these keys hold, too, unless they are among the others.
    """
    on = [name for name in LOSSES if cfg.DISTILL[name].WEIGHT > 0] if is_on(cfg.DISTILL) else []
    words = [word for name in on for word in (f"DISTILL.{name}.WEIGHT", "0")]
    if cfg.DATASETS.UNLABELED:  # nothing would be learned from them
        words += ["DATASETS.UNLABELED", "[]"]
    words += ["OUTPUT_DIR", unused(f"{cfg.OUTPUT_DIR}_{output.absolute().name}"), *labels]
    pairs = {key: value for some in (overrides, words) for key, value in zip(some[::2], some[1::2], strict=True)}
    return [word for pair in pairs.items() for word in pair]


def unused(folder: str) -> str:
    """Return a folder that holds no run: this one, or the first with a number behind it."""
    return next(name for n in count(1) if not holds_run(Path(name := folder if n == 1 else f"{folder}_{n}")))
