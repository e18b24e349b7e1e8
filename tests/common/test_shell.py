"""Commands that are printed are read by a shell as they were meant."""

import shlex
import sys

import pytest

from densedist.common.shell import command, in_lines, quoted


@pytest.mark.parametrize(
    ("words", "written"),
    [
        (["A", "['one', 'two']"], "A \"['one', 'two']\""),
        (["path with blanks"], "'path with blanks'"),
        (["it's $HOME"], "'it'\"'\"'s $HOME'"),
        ([""], "''"),
    ],
)
def test_words_are_quoted_as_a_person_would(words, written):
    assert quoted(words) == written
    assert shlex.split(written) == words


def test_a_command_is_read_line_by_line():
    words = ["densedist", "train", "--config-file", "my student.yaml", "--resume", "INPUT.FORMAT", "RGB", "SEED", "3"]
    written = in_lines(words)
    assert written.replace("\\\n    ", "| ").split("| ") == [
        "densedist train ",
        "--config-file 'my student.yaml' ",
        "--resume ",
        "INPUT.FORMAT RGB ",
        "SEED 3",
    ]
    assert shlex.split(written.replace("\\\n", "")) == words  # as a shell does, and shlex does not


def test_a_command_is_one_for_the_users_shell(monkeypatch, tmp_path):
    words = ("eval", "--weights", "my run")
    monkeypatch.setenv("UV_RUN_RECURSION_DEPTH", "1")
    assert command(*words) == "uv run densedist eval --weights 'my run'"
    monkeypatch.delenv("UV_RUN_RECURSION_DEPTH")
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    assert command(*words) == "densedist eval --weights 'my run'"
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert command(*words) == f"{sys.executable} -m densedist eval --weights 'my run'"
    typed = tmp_path / "densedist"
    typed.touch()
    monkeypatch.setattr(sys, "argv", [str(typed), "train"])
    assert command(*words) == f"{typed} eval --weights 'my run'"
