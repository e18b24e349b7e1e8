"""Seconds from a command to its first word, and to the refusal of what is mistyped: each in a process of its own."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

CONFIG = "seg/digits/pspnet_r10_quarter.yaml"
TRIES = 2  # of each, by turns; the shorter one counts
FIRST = "first word"
# What is mistyped, and how.
CONFIG_NAME, KEY, PATH = "config", "key", "path"
WRONG_KEY = ("SOLVER.MAXITER", "3")


@dataclass(frozen=True)
class Call:
    """A command in a folder of write_files().

    Args:
        words: after `densedist`.
        paths: a path among the words as it would be mistyped; empty = there is none.
    """

    words: Sequence[str]
    paths: Mapping[str, str]

    def mistyped(self) -> dict[str, list[str]]:
        """Return the words with a mistake in each of its places."""
        found = {}
        if CONFIG in self.words:
            found[CONFIG_NAME] = [word.replace("quarter", "quater") for word in self.words]
        if CONFIG in self.words or "--weights" in self.words:
            found[KEY] = [*self.words, *WRONG_KEY]
        if self.paths:
            found[PATH] = [self.paths.get(word, word) for word in self.words]
        return found


OF_CONFIG, OF_RUN, TEACHER = ("--config-file", CONFIG), ("--weights", "run"), ("DISTILL.TEACHER.WEIGHTS", "run")
RUN, PHOTOS = {"run": "rnu"}, {"photos": "phtos"}
CALLS = {
    "train": Call([*OF_CONFIG, *TEACHER], RUN),
    "compare": Call([*OF_CONFIG, *TEACHER], RUN),
    "tune": Call([*OF_CONFIG, "--methods", "dist", "--budget", "9", *TEACHER], RUN),
    "check": Call(OF_CONFIG, {}),
    "plan": Call([*OF_CONFIG, "--card", "h100-80"], {}),
    "eval": Call(OF_RUN, RUN),
    "predict": Call([*OF_RUN, "photos"], RUN),
    "label": Call([*OF_RUN, "photos"], PHOTOS),
    "visualize": Call(OF_RUN, RUN),
    "export": Call(OF_RUN, RUN),
    "profile": Call(OF_RUN, RUN),
    "init": Call(["photos"], PHOTOS),
    "prepare": Call(["seg", "photos"], PHOTOS),
    "import": Call(["seg", "photos/weights.pth"], {"photos/weights.pth": "photos/wieghts.pth"}),
    "keys": Call(["EMA"], {}),
    "quickstart": Call(["seg"], {}),
}


def main(file: Path | None) -> None:
    """Measure and print; write everything to file as JSON."""
    load = os.getloadavg()[0]
    seconds: dict[str, dict[str, float]] = {name: {} for name in CALLS}
    with tempfile.TemporaryDirectory(prefix="commands_") as folder:
        write_files(Path(folder))
        for _ in range(TRIES):
            for name, call in CALLS.items():
                for what, words in {FIRST: call.words, **call.mistyped()}.items():
                    taken = measure([name, *words], Path(folder), to_the_end=what != FIRST)
                    seconds[name][what] = min(taken, seconds[name].get(what, taken))
    title = (
        f"Seconds to a command's first word, and to the refusal of a mistake; load of the machine before: {load:.1f}"
    )
    print(title)
    print(tabulate(table(seconds), headers="keys", tablefmt="pipe", disable_numparse=True))
    if file:
        file.write_text(json.dumps({"load": load, "seconds": seconds}, indent=2) + "\n")


def write_files(folder: Path) -> None:
    """Write what the commands look for before they import PyTorch: a run, and a folder."""
    (folder / "run").mkdir()
    (folder / "run" / "config.yaml").write_text("TASK: seg\n")
    (folder / "run" / "model_final.pth").touch()
    (folder / "photos").mkdir()
    (folder / "photos" / "weights.pth").touch()


def measure(words: Sequence[str], folder: Path, to_the_end: bool) -> float:
    """Return the seconds from the start of a command to its first line, or to its end, which is a refusal.

    Args:
        folder: the current one of the command.
    """
    command = [sys.executable, "-m", "densedist", *words]
    start = time.perf_counter()
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        process.stdout.readline()
        if not to_the_end:
            seconds = time.perf_counter() - start
            process.kill()
            return seconds
        code = process.wait()
    seconds = time.perf_counter() - start
    assert code == 2, f"{' '.join(words)} is not refused"
    return seconds


def table(seconds: Mapping[str, Mapping[str, float]]) -> list[dict[str, str]]:
    """One line a command."""
    columns = (FIRST, CONFIG_NAME, KEY, PATH)
    return [
        {"command": name, **{what: f"{taken[what]:.2f}" if what in taken else "" for what in columns}}
        for name, taken in seconds.items()
    ]
