"""Commands as a shell takes them, as a person would write them."""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

KEY = re.compile(r"[A-Z][A-Z0-9_]*(\.\w+)*")  # of a config
PLAIN_IN_DOUBLE_QUOTES = re.compile(r"""[^"$`\\!]*""")


def quoted(words: Iterable[str]) -> str:
    """Join words for a shell: a list like ['one'] in double quotes, where shlex would write '['"'"'one'"'"']'."""
    return " ".join(
        f'"{word}"' if "'" in word and PLAIN_IN_DOUBLE_QUOTES.fullmatch(word) else shlex.quote(word) for word in words
    )


def in_lines(words: Sequence[str]) -> str:
    """Join words for a shell as quoted() does, each option, and each key of a config, on a line of its own."""
    lines: list[list[str]] = [[]]
    is_value = False
    for word in words:
        is_key = bool(KEY.fullmatch(word)) and not is_value
        if word.startswith("--") or is_key:
            lines.append([])
        lines[-1].append(word)
        is_value = is_key
    return " \\\n    ".join(map(quoted, lines))


def command(*words: str) -> str:
    """Return a command of DenseDIST as the user's shell takes it."""
    return quoted([*launcher(), *words])


def from_here(word: str) -> str:
    """Return a word of a command in which absolute paths within the current folder are relative to it."""
    return re.sub(rf"""(^|['"]){re.escape(str(Path.cwd()))}/""", r"\1", word)


def launcher() -> list[str]:
    """Return the words that start DenseDIST in the user's shell.

    Under uv, where this process runs under uv; by the path that was typed, or by Python, where the shell does not find
    densedist.
    """
    if "UV_RUN_RECURSION_DEPTH" in os.environ:
        return ["uv", "run", "densedist"]
    if shutil.which("densedist"):
        return ["densedist"]
    typed = Path(sys.argv[0])
    return [str(typed)] if typed.name == "densedist" and typed.is_file() else [sys.executable, "-m", "densedist"]
